"""A link that delays: a userland stand-in for a slow edge link, in order and without blocking anybody."""

import asyncio
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class DelayLine(Generic[T]):
    """First in, first out; each item can be taken delay_s after it was put. delay_s 0.0: at once."""

    def __init__(self, delay_s: float = 0.0) -> None:
        self._delay_s = delay_s
        self._items: deque[tuple[float, T]] = deque()  # (due, item)
        self._changed = asyncio.Event()
        self._closed = False

    def put(self, item: T) -> None:
        """Put an item in."""
        self._items.append((asyncio.get_running_loop().time() + self._delay_s, item))
        self._changed.set()

    def put_back(self, items: list[T]) -> None:
        """Put items that were taken back in front, due at once."""
        self._items.extendleft((0.0, item) for item in reversed(items))
        self._changed.set()

    async def take(self) -> list[T]:
        """All items that are due, at least one; [] once the line is closed and empty."""
        loop = asyncio.get_running_loop()
        while not self._items or self._items[0][0] > loop.time():
            if self._items:
                await asyncio.sleep(self._items[0][0] - loop.time())
            elif self._closed:
                return []
            else:
                self._changed.clear()
                await self._changed.wait()
        due, now = [], loop.time()
        while self._items and self._items[0][0] <= now:
            due.append(self._items.popleft()[1])
        return due

    def __len__(self) -> int:
        return len(self._items)

    def clear(self) -> None:
        """Drop what is under way."""
        self._items.clear()

    def close(self) -> None:
        """Nothing more will be put in."""
        self._closed = True
        self._changed.set()
