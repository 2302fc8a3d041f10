"""A link of the ring: messages from one rank to the next, in order."""

import asyncio
import re
from datetime import timedelta
from typing import Final, Protocol

import torch

from services.verifier.stages.messages import MAX_BYTES, Message, decode, encode
from shared.compute.compute import ThreadCompute
from shared.runtime.service import Lost

SEND_S: Final = 30.0  # until the neighbour has taken a message
LAST_S: Final = 2.0  # the same for what is said last, to one that may be leaving as well
TAG: Final = 0  # gloo's, of all messages


class LinkBroken(Lost):
    """A neighbour is gone or silent; the text names it."""


class Outbound(Protocol):
    """To the next rank. sent_bytes: of messages so far."""

    sent_bytes: int

    async def send(self, message: Message, limit_s: float = SEND_S) -> None:
        """Send one message; those of several callers go in the order of the calls.

        limit_s: until the neighbour has taken it. Raises LinkBroken.
        """
        ...


class Inbound(Protocol):
    """From the rank before."""

    async def receive(self, limit_s: float) -> Message:
        """The next message. Raises LinkBroken, also when none comes within limit_s; RingMessageError."""
        ...


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
    """Sends over torch.distributed, on a thread of its own."""

    def __init__(self, group: Carrier, peer: int) -> None:
        self._group: Carrier | None = group
        self._peer = peer
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
                _open(self._group).send([part], self._peer, TAG).wait(timedelta(seconds=limit_s))
        except RuntimeError as error:
            if isinstance(error, LinkBroken):
                raise
            raise LinkBroken(f"rank {self._peer} takes no message: {reason(error)}") from None

    def close(self) -> None:
        """Let the current message go and send no more."""
        self._thread.close()
        self._group = None


class GlooInbound:
    """Receives over torch.distributed, on a thread of its own."""

    def __init__(self, group: Carrier, peer: int) -> None:
        self._group: Carrier | None = group
        self._peer = peer
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
        _open(self._group).recv([part], self._peer, TAG).wait(timedelta(seconds=limit_s))

    def close(self) -> None:
        """Receive no more. A wait under way ends with the sender's connection, or its limit."""
        self._thread.close()
        self._group = None


class QueueLink:
    """Both ends of a link within one process, for tests and simulations. delay_s: of every message."""

    def __init__(self, delay_s: float = 0.0) -> None:
        self._messages: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        self._delay_s = delay_s
        self.broken = False
        self.sent_bytes = 0

    async def send(self, message: Message, limit_s: float = SEND_S) -> None:
        """Send one message. Raises LinkBroken."""
        if self.broken:
            raise LinkBroken("the link was cut")
        data = encode(message)
        self.sent_bytes += len(data)
        self._messages.put_nowait((asyncio.get_running_loop().time() + self._delay_s, data))

    async def receive(self, limit_s: float) -> Message:
        """The next message. Raises LinkBroken."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(limit_s):
                due, data = await self._messages.get()
                if due > loop.time():
                    await asyncio.sleep(due - loop.time())
        except TimeoutError:
            raise LinkBroken(f"no message for {limit_s:.0f} s") from None
        if self.broken:
            raise LinkBroken("the link was cut")
        return decode(data)

    def close(self) -> None:
        """Nothing to close."""


def _open(group: Carrier | None) -> Carrier:
    if group is None:
        raise LinkBroken("this process has left the group")
    return group


def reason(error: BaseException) -> str:
    """What gloo, a store or a socket says, without the place in its sources and its advice."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    line = (str(error).strip() or repr(error)).splitlines()[0]
    return re.sub(r"^\[\S*\] ", "", line).partition(". ")[0]
