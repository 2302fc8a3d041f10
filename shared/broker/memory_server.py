"""The data of an in-memory broker: keys that expire, and streams with one consumer group.

Time is the loop's, unless a clock is given.
No method awaits, so each is atomic like a Lua script. Sessions are the business of memory_scripts.py.
"""

import asyncio
import heapq
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Protocol, TypeVar

from shared.broker.contract import BrokerAway, Entry
from shared.protocol import limits, wire
from shared.protocol.keys import STAGED
from shared.protocol.messages import Message

T = TypeVar("T")
_number = itemgetter(0)


@dataclass(slots=True)
class Delivered:
    """An entry that was delivered to a consumer and not acknowledged."""

    consumer: str
    times: int


@dataclass(slots=True)
class ConsumerGroup:
    """The consumer group of a work stream."""

    last: int = 0  # number of the last entry delivered
    pending: dict[int, Delivered] = field(default_factory=dict)


@dataclass(slots=True)
class Stream:
    """Entries by growing number; entry n has the id "n-0"."""

    entries: list[tuple[int, bytes]] = field(default_factory=list)
    group: ConsumerGroup | None = None

    def after(self, number: int, count: int) -> list[tuple[int, bytes]]:
        """Up to `count` entries with higher numbers."""
        start = bisect_right(self.entries, number, key=_number)
        return self.entries[start : start + count]

    def find(self, number: int) -> bytes | None:
        """The data of one entry, None when it was deleted."""
        at = bisect_left(self.entries, number, key=_number)
        return self.entries[at][1] if at < len(self.entries) and self.entries[at][0] == number else None

    def remove(self, number: int) -> None:
        """Acknowledge and delete."""
        if self.group is not None:
            self.group.pending.pop(number, None)
        at = bisect_left(self.entries, number, key=_number)
        if at < len(self.entries) and self.entries[at][0] == number:
            del self.entries[at]


class Waiter(Protocol):
    """A read that waits for entries. It may be called more than once."""

    def wake(self) -> None:
        """An entry was added."""
        ...

    def fail(self, error: Exception) -> None:
        """There will be none."""
        ...


class _Sleeper:
    """A waiter on whose future a task waits."""

    def __init__(self, woken: asyncio.Future[None]) -> None:
        self.woken = woken

    def wake(self) -> None:
        if not self.woken.done():
            self.woken.set_result(None)

    def fail(self, error: Exception) -> None:
        if not self.woken.done():
            self.woken.set_exception(error)


class MemoryServer:
    """One broker, shared by the MemoryBroker of every service in this process.

    clock: its own, in seconds. encode: how messages become bytes. With `wire.encode_carried` their readers need not
    decode them.
    """

    def __init__(
        self, clock: Callable[[], float] | None = None, encode: Callable[[Message], bytes] = wire.encode
    ) -> None:
        """clock: the server's own, in seconds; None = that of the running loop."""
        self.clock = clock or _loop_time
        self.encode = encode
        self.full = False  # no memory left: new sessions, records and spans are refused
        self._lives = 0
        self._numbers = 0  # of stream entries; never given twice, not even after a wipe
        self._values: dict[str, object] = {}
        self._expires: dict[str, float] = {}
        self._expiry_heap: list[tuple[float, str]] = []  # heap over _expires, with outdated entries
        self._waiting: dict[str, list[Waiter]] = defaultdict(list)

    @property
    def run_id(self) -> str:
        """Identity of the data; a wipe changes it."""
        return f"memory-{self._lives}"

    def now_ms(self) -> int:
        """The broker's clock."""
        return round(self.clock() * 1000)

    def wipe(self) -> None:
        """Lose all data, as a restart without persistence does. Waiting readers get BrokerAway."""
        self._lives += 1
        for data in (self._values, self._expires, self._expiry_heap):
            data.clear()
        for waiter in [waiter for waiters in self._waiting.values() for waiter in waiters]:
            waiter.fail(BrokerAway("the broker was restarted"))

    def keys_without_expiry(self) -> set[str]:
        """Keys that never expire."""
        return self.keys() - set(self._expires)

    # --- keys ---------------------------------------------------------------------------------------
    def keys(self) -> set[str]:
        """All keys that have not expired."""
        self.purge()
        return set(self._values)

    def purge(self) -> None:
        """Delete expired keys. Called before each operation."""
        now = self.clock()
        while self._expiry_heap and self._expiry_heap[0][0] <= now:
            _, key = heapq.heappop(self._expiry_heap)
            if self._expires.get(key, now + 1) <= now:
                self.drop(key)

    def get(self, key: str, kind: type[T]) -> T | None:
        """The value of a key; None when there is none. TypeError when it has another type."""
        value = self._values.get(key)
        if value is not None and not isinstance(value, kind):
            raise TypeError(f"{key} holds a {type(value).__name__}, not a {kind.__name__}")
        return value

    def make(self, key: str, new: Callable[[], T], kind: type[T]) -> T:
        """The value of a key, created where missing."""
        value = self.get(key, kind)
        if value is None:
            value = new()
            self._values[key] = value
        return value

    def put(self, key: str, value: object) -> None:
        """Set a key. Its expiry stays."""
        self._values[key] = value

    def drop(self, key: str) -> None:
        """Delete a key."""
        self._values.pop(key, None)
        self._expires.pop(key, None)

    def expire(self, key: str, ttl_s: float) -> None:
        """Let a key expire in ttl_s, if it exists."""
        if key in self._values:
            self._expires[key] = self.clock() + ttl_s
            heapq.heappush(self._expiry_heap, (self._expires[key], key))

    def ttl(self, key: str) -> float:
        """Seconds until a key expires; -1 = never, -2 = no such key."""
        if key not in self._values:
            return -2
        return self._expires[key] - self.clock() if key in self._expires else -1

    def expires(self, key: str) -> bool:
        """Whether a key has an expiry."""
        return key in self._expires

    def next_number(self, counter: str) -> int:
        """The next number of a counter. It starts at the clock, so that no number is repeated after a wipe."""
        number = (self.get(counter, int) or self.now_ms()) + 1
        self.put(counter, number)
        return number

    # --- streams ------------------------------------------------------------------------------------
    def stream(self, name: str) -> Stream:
        """A stream, created where missing."""
        value = self._values.get(name)
        if isinstance(value, Stream):
            return value
        made = self.make(name, Stream, Stream)
        if STAGED in name:
            self.expire(name, limits.INBOX_KEPT_S)
        return made

    def length(self, name: str) -> int:
        """Entries of a stream, 0 when there is none."""
        stream = self.get(name, Stream)
        return len(stream.entries) if stream else 0

    def add(self, name: str, data: bytes, cap: int | None = None) -> None:
        """Append an entry and wake its waiting readers. Beyond cap the oldest entries are deleted."""
        self._numbers += 1
        stream = self.stream(name)
        stream.entries.append((self._numbers, data))
        if cap is not None and len(stream.entries) > cap:
            del stream.entries[:-cap]
        for waiter in self._waiting.pop(name, ()):
            waiter.wake()

    def deliver(self, name: str, consumer: str, count: int) -> list[Entry]:
        """Deliver new entries of a work stream; they are pending from now on."""
        stream = self.stream(name)
        group = stream.group
        if group is None:
            group = stream.group = ConsumerGroup()
        if not stream.entries or stream.entries[-1][0] <= group.last:  # nearly always of two streams of three
            return []
        entries = stream.after(group.last, count)
        for number, _ in entries:
            group.pending[number] = Delivered(consumer, 1)
        group.last = entries[-1][0]
        return [Entry(name, f"{number}-0", data) for number, data in entries]

    def redeliver(self, name: str, consumer: str, count: int) -> list[Entry]:
        """A consumer's pending entries, oldest first; counts as one more delivery."""
        stream, group = self.stream(name), self.group(name)
        own = sorted(number for number, given in group.pending.items() if given.consumer == consumer)
        found = []
        for number in own[:count]:
            data = stream.find(number)
            if data is None:  # deleted while it was pending
                del group.pending[number]
                continue
            group.pending[number].times += 1
            found.append(Entry(name, f"{number}-0", data, group.pending[number].times))
        return found

    def group(self, name: str) -> ConsumerGroup:
        """The group of a work stream, created where missing (from the stream's start)."""
        stream = self.stream(name)
        if stream.group is None:
            stream.group = ConsumerGroup()
        return stream.group

    def waiting(self) -> int:
        """Waiting reads, counted once per stream."""
        return sum(map(len, self._waiting.values()))

    def add_waiter(self, names: Sequence[str], waiter: Waiter) -> None:
        """Wake the waiter once an entry is added to one of these streams."""
        for name in names:
            self._waiting[name].append(waiter)

    def drop_waiter(self, names: Sequence[str], waiter: Waiter) -> None:
        """The opposite of add_waiter."""
        for name in names:
            waiting = self._waiting.get(name)
            if waiting and waiter in waiting:
                waiting.remove(waiter)

    async def wait(self, names: Sequence[str], limit_s: float) -> None:
        """Wait until an entry is added to one of these streams, limit_s at most."""
        loop = asyncio.get_running_loop()
        waiter = _Sleeper(loop.create_future())
        timer = loop.call_later(limit_s, waiter.wake)
        self.add_waiter(names, waiter)
        try:
            await waiter.woken
        finally:
            timer.cancel()
            self.drop_waiter(names, waiter)


def number_of(entry_id: str) -> int:
    """The number in an entry's id, "n-0"."""
    return int(entry_id[:-2])


def _loop_time() -> float:
    return asyncio.get_running_loop().time()
