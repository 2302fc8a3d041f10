"""Emulates a slow edge link in user space: delays messages in order, without blocking the loop."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from math import ceil, inf
from typing import Final, Generic, TypeVar

from services.draft_worker.station import Station
from shared.cells.cell import Direction
from shared.cells.token_bucket import TokenBucket
from shared.runtime.bell import Bell
from shared.runtime.ids import Ids

T = TypeVar("T")
TICK_S: Final = 1e-6  # rounding of times
RESEND_TIMEOUT_S: Final = 0.2  # TCP's minimum retransmission time-out; doubled for each further loss
MAX_RESENDS: Final = 6


@dataclass(slots=True)
class Link:
    """One direction of a link. delay_s: fixed delay; it may change, for messages sent later. bytes_per_s: rate.

    jitter_s: mean of an exponential delay. loss: share of messages that are lost and resent after TCP's time-out.
    station: the device's place in a radio cell, which takes the place of the rate; the delay comes after it.
    payload_bits_per_token: what a draft carries with each token beside its id, such as a distribution. share: what the
    device may send; a station keeps it for the device.
    """

    ids: Ids
    delay_s: float = 0.0
    jitter_s: float = 0.0
    bytes_per_s: float = inf
    loss: float = 0.0
    station: Station | None = None
    payload_bits_per_token: int = 0
    share: TokenBucket = field(default_factory=TokenBucket)

    def keep(self, bits_s: float) -> None:
        """Carry at most this from now on."""
        if self.station is not None:
            self.station.keep(bits_s)
        else:
            self.share.set_rate(bits_s, asyncio.get_running_loop().time())

    @contextmanager
    def in_cell(self) -> Iterator[None]:
        """The device's time in its cell, if it has one."""
        if self.station is None:
            yield
            return
        self.station.join()
        try:
            yield
        finally:
            self.station.leave()

    def payload_bytes(self, tokens: int) -> int:
        """What so many drafted tokens add to their message."""
        return ceil(self.payload_bits_per_token * tokens / 8)

    def draw_s(self) -> float:
        """Draw the next message's delay, without its transmission time."""
        late = self.delay_s + (self.ids.exponential(self.jitter_s) if self.jitter_s else 0.0)
        times = 0
        while self.loss and times < MAX_RESENDS and self.ids.jitter(0.0, 1.0) < self.loss:
            late += RESEND_TIMEOUT_S * 2**times
            times += 1
        return late

    @property
    def is_instant(self) -> bool:
        """Whether every message arrives as it is sent."""
        slow = self.station is not None or self.bytes_per_s < inf or self.share.bits_s < inf
        return not (slow or self.delay_s or self.jitter_s or self.loss)


class _Crossing(Generic[T]):
    """Items on their way over a link, in order."""

    def __init__(self, link: Link, share: TokenBucket | None = None) -> None:
        """share: that the items keep to; None = none."""
        self._link, self._share = link, share
        self._items: deque[tuple[float, T]] = deque()  # (due, item)
        self._free_at = 0.0  # when the link has sent all that was put in

    def __len__(self) -> int:
        return len(self._items)

    def append(self, item: T, size: int, now: float) -> float:
        """Add an item of `size` bytes, which a cell has carried already. Returns when it will have crossed."""
        sending_s = 0.0 if self._link.station else size / self._link.bytes_per_s
        begins_at = max(now, self._free_at)
        if self._share is not None:
            begins_at = max(begins_at, self._share.free_at(now))
            self._share.take(8 * size, now)
        self._free_at = begins_at + sending_s
        due = self._free_at + self._link.draw_s()
        if self._items:
            due = max(due, self._items[-1][0])
        self._items.append((due, item))
        return due

    def put_back(self, items: list[T]) -> None:
        """Return taken items to the front, due at once."""
        self._items.extendleft((0.0, item) for item in reversed(items))

    def next_at(self) -> float:
        """When the first item will have crossed; inf without items."""
        return self._items[0][0] if self._items else inf

    def take(self, now: float) -> list[T]:
        """Take the items that have crossed."""
        due = []
        while self._items and self._items[0][0] <= now + TICK_S:
            due.append(self._items.popleft()[1])
        return due

    def clear(self) -> None:
        """Drop all items."""
        self._items.clear()


class _OnAir(Generic[T]):
    """Items that the device's cell carries, in order, before they cross the link; without a cell none."""

    def __init__(self, link: Link, direction: Direction, carried: Callable[[T, int], None]) -> None:
        self._link, self._direction, self._carried = link, direction, carried
        self._count = 0
        self._clears = 0

    def __len__(self) -> int:
        return self._count

    def put(self, item: T, size: int) -> None:
        """Call `carried` with an item of `size` bytes once it, and those before it, were carried."""
        if self._link.station is None:
            self._carried(item, size)
            return
        self._count += 1
        self._link.station.send(self._direction, size, partial(self._end, item, size, self._clears))

    def _end(self, item: T, size: int, clears: int) -> None:
        if clears == self._clears:  # else it was dropped as it arrived
            self._count -= 1
            self._carried(item, size)

    def clear(self) -> None:
        """Drop all items."""
        if self._count and self._link.station is not None:
            self._link.station.drop(self._direction)
        self._count = 0
        self._clears += 1


class Delivery(Generic[T]):
    """Calls `deliver` with each item once it, and those before it, have crossed the link. No task waits for it."""

    def __init__(self, link: Link, deliver: Callable[[T], None], direction: Direction = "down") -> None:
        """deliver: must not raise."""
        self._deliver, self._link = deliver, link
        self._on_air: _OnAir[T] = _OnAir(link, direction, self._cross)
        self._crossing: _Crossing[T] = _Crossing(link)
        self._closed = False

    def put(self, item: T, size: int = 0) -> None:
        """Put in an item of `size` bytes."""
        if self._closed:
            return
        if self._link.is_instant and not self._crossing:
            self._deliver(item)
            return
        self._on_air.put(item, size)

    def clear(self) -> None:
        """Drop all items."""
        self._on_air.clear()
        self._crossing.clear()

    def close(self) -> None:
        """Deliver nothing any more."""
        self._closed = True
        self.clear()

    def _cross(self, item: T, size: int) -> None:
        due = self._crossing.append(item, size, asyncio.get_running_loop().time())
        if len(self._crossing) == 1:
            self._wake_at(due)

    def _wake_at(self, due: float) -> None:
        asyncio.get_running_loop().call_at(due, self._deliver_due)

    def _deliver_due(self) -> None:
        for item in self._crossing.take(asyncio.get_running_loop().time()):
            if self._closed:
                return
            self._deliver(item)
        if self._crossing:  # behind an earlier item, or woken too early: uvloop rounds to 1 ms
            self._wake_at(self._crossing.next_at())


class DelayLine(Generic[T]):
    """A FIFO queue whose items can be taken once they, and those before them, have crossed the link."""

    def __init__(self, link: Link, direction: Direction = "up") -> None:
        self._link = link
        self._on_air: _OnAir[T] = _OnAir(link, direction, self._cross)
        self._crossing: _Crossing[T] = _Crossing(link, link.share)
        self._changed = Bell()
        self._closed = False

    def __len__(self) -> int:
        return len(self._on_air) + len(self._crossing)

    def put(self, item: T, size: int = 0) -> None:
        """Put in an item of `size` bytes."""
        self._on_air.put(item, size)

    def put_back(self, items: list[T]) -> None:
        """Return taken items to the front, due at once."""
        if items:
            self._crossing.put_back(items)
            self._changed.ring()

    async def take(self) -> list[T]:
        """Wait for and take all due items; [] once the line is closed and empty."""
        loop = asyncio.get_running_loop()
        while not (due := self._crossing.take(loop.time())):
            if self._closed and not self:
                return []
            if self._crossing:  # behind an earlier item, or woken too early: uvloop rounds to 1 ms
                self._wake_at(self._crossing.next_at())
            await self._changed.wait()
        return due

    def clear(self) -> None:
        """Drop all items."""
        self._on_air.clear()
        self._crossing.clear()

    def close(self) -> None:
        """Close the line: no more items will be put in."""
        self._closed = True
        self._changed.ring()

    def _cross(self, item: T, size: int) -> None:
        due = self._crossing.append(item, size, asyncio.get_running_loop().time())
        if self._link.is_instant:
            self._changed.ring()
        elif len(self._crossing) == 1:
            self._wake_at(due)

    def _wake_at(self, due: float) -> None:
        asyncio.get_running_loop().call_at(due, self._changed.ring)
