"""A broker that measures its own queues: the mean length of its work streams and of its set of live sessions."""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from typing import Any, TypeVar

from shared.broker.memory_server import MemoryServer, Stream
from shared.protocol.keys import Keys
from shared.protocol.messages import Message

T = TypeVar("T")


class Level:
    """A number over time."""

    def __init__(self) -> None:
        self._steps: list[tuple[float, int]] = [(0.0, 0)]  # (since, number)

    def set(self, number: int) -> None:
        """The number from now on."""
        self._steps.append((asyncio.get_running_loop().time(), number))

    def mean(self, start: float, end: float) -> float:
        """Mean over the time from start to end."""
        ends = [at for at, _ in self._steps[1:]] + [float("inf")]
        parts = (
            (number, max(since, start), min(until, end))
            for (since, number), until in zip(self._steps, ends, strict=True)
        )
        return sum(number * (until - since) for number, since, until in parts if until > since) / (
            end - start
        )


class _Stream(Stream):
    """A stream whose length is watched."""

    __slots__ = ("level",)

    def __init__(self, level: Level) -> None:
        super().__init__()
        self.level = level

    def remove(self, number: int) -> None:
        """See Stream.remove."""
        super().remove(number)
        self.level.set(len(self.entries))


class _Live(set[str]):
    """The set of live sessions, watched."""

    def __init__(self, level: Level) -> None:
        super().__init__()
        self._level = level

    def add(self, session: str) -> None:
        super().add(session)
        self._level.set(len(self))

    def discard(self, session: object) -> None:
        super().discard(session)
        self._level.set(len(self))


class WatchedServer(MemoryServer):
    """levels: by stream, and by the key of the live sessions. Streams that are cut at a length are not watched."""

    def __init__(self, clock: Callable[[], float], encode: Callable[[Message], bytes]) -> None:
        """See MemoryServer."""
        super().__init__(clock, encode)
        self.levels: dict[str, Level] = defaultdict(Level)

    def make(self, key: str, new: Callable[[], T], kind: type[T]) -> T:
        """See MemoryServer.make."""
        if key == Keys().live:
            live: Any = _Live(self.levels[key])
            return super().make(key, lambda: live, kind)
        return super().make(key, new, kind)

    def stream(self, name: str) -> Stream:
        """See MemoryServer.stream."""
        return self.make(name, lambda: _Stream(self.levels[name]), Stream)

    def add(self, name: str, data: bytes, cap: int | None = None) -> None:
        """See MemoryServer.add."""
        super().add(name, data, cap)
        if cap is None:
            self.levels[name].set(self.length(name))
