"""Links of the ring over torch.distributed, from process to process."""

from datetime import timedelta
from typing import Final, Protocol

import torch

from services.verifier.stages.link import SEND_S, LinkBroken, reason
from services.verifier.stages.messages import MAX_BYTES, Message, decode, encode
from shared.compute.compute import ThreadCompute

TAG: Final = 0  # gloo's, of the ring's messages


class Carrying(Protocol):
    """A message on its way."""

    def wait(self, timeout: timedelta) -> bool:
        """Wait for its end. Raises RuntimeError."""
        ...


class Carrier(Protocol):
    """What a link needs of torch.distributed: ProcessGroupGloo, whose type says too little."""

    def send(self, tensors: list[torch.Tensor], rank: int, tag: int) -> Carrying:
        """Begin to send a tensor."""
        ...

    def recv(self, tensors: list[torch.Tensor], rank: int, tag: int) -> Carrying:
        """Begin to fill a tensor."""
        ...


class GlooOutbound:
    """Sends over torch.distributed, on a thread of its own. tag: another one's messages keep an order of their own."""

    def __init__(self, group: Carrier, peer: int, tag: int = TAG) -> None:
        self._group: Carrier | None = group
        self._peer, self._tag = peer, tag
        self._thread = ThreadCompute("send")
        self.sent_bytes = 0

    async def send(self, message: Message, limit_s: float = SEND_S) -> None:
        """Send one message. Raises LinkBroken."""
        data = torch.frombuffer(bytearray(encode(message)), dtype=torch.uint8)
        self.sent_bytes += len(data)
        await self._thread.run(lambda: self._send(data, limit_s))

    def _send(self, data: torch.Tensor, limit_s: float) -> None:
        try:
            for part in (torch.tensor([len(data)]), data):
                _open(self._group).send([part], self._peer, self._tag).wait(timedelta(seconds=limit_s))
        except RuntimeError as error:
            if isinstance(error, LinkBroken):
                raise
            raise LinkBroken(f"rank {self._peer} takes no message: {reason(error)}") from None

    def close(self) -> None:
        """Let the current message go and send no more."""
        self._thread.close()
        self._group = None


class GlooInbound:
    """Receives over torch.distributed, on a thread of its own. tag: the sender's."""

    def __init__(self, group: Carrier, peer: int, tag: int = TAG) -> None:
        self._group: Carrier | None = group
        self._peer, self._tag = peer, tag
        self._thread = ThreadCompute("receive")
        self._length = torch.zeros(1, dtype=torch.int64)

    async def receive(self, limit_s: float) -> Message:
        """The next message. Raises LinkBroken and RingMessageError."""
        return await self._thread.run(lambda: self._receive(limit_s))

    def _receive(self, limit_s: float) -> Message:
        try:
            self._await(self._length, limit_s)
            length = int(self._length)
            if not 0 < length <= MAX_BYTES:
                raise LinkBroken(f"rank {self._peer} announced a message of {length} bytes")
            data = torch.empty(length, dtype=torch.uint8)
            self._await(data, limit_s)
        except RuntimeError as error:
            if isinstance(error, LinkBroken):
                raise
            raise LinkBroken(f"rank {self._peer} is gone or silent: {reason(error)}") from None
        return decode(data.numpy().tobytes())

    def _await(self, part: torch.Tensor, limit_s: float) -> None:
        _open(self._group).recv([part], self._peer, self._tag).wait(timedelta(seconds=limit_s))

    def close(self) -> None:
        """Receive no more. A wait under way ends with the sender's connection, or its limit."""
        self._thread.close()
        self._group = None


def _open(group: Carrier | None) -> Carrier:
    if group is None:
        raise LinkBroken("this process has left the group")
    return group
