"""A link of the ring: messages from one rank to the next, in order."""

import asyncio
import re
from typing import Final, Protocol

from services.verifier.stages.messages import Failed, Message, decode, encode
from shared.runtime.service import Lost

SEND_S: Final = 30.0  # until the neighbour has taken a message
LAST_S: Final = 2.0  # the same for what is said last, to one that may be leaving as well


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


class Links(Protocol):
    """From the rank before and to the next one, in one group."""

    @property
    def inbound(self) -> Inbound:
        """From the rank before."""
        ...

    @property
    def outbound(self) -> Outbound:
        """To the next rank."""
        ...

    async def leave(self, notice: Failed | None) -> None:
        """Leave the group. notice: sent to the next rank, so that it need not wait for silence; None = it knows."""
        ...


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


def reason(error: BaseException) -> str:
    """What gloo, a store or a socket says, without the place in its sources and its advice."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    line = (str(error).strip() or repr(error)).splitlines()[0]
    return re.sub(r"^\[\S*\] ", "", line).partition(". ")[0]
