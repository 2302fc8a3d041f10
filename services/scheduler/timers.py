"""One timer per session, O(log sessions) at worst and nothing at all when a timer only moves back."""

import heapq
from typing import Final

MAX_DEAD_ENTRIES: Final = 64  # dead entries that are not worth a clean-up


class Timers:
    """The earliest time each session has to be looked at.

    The heap holds one entry per session. A timer that is set later leaves its entry where it is: when the entry
    comes up it is put back at the true time. Only an earlier timer adds an entry; the old one is then dead, and goes
    when its time comes or the dead outnumber the living: a deadline of minutes would else keep one for every round.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, str]] = []
        self._entry_at: dict[str, float] = {}  # of the live entry in the heap
        self._due_at: dict[str, float] = {}

    def set(self, session: str, at: float) -> None:
        """Wake for this session at `at`, instead of whatever was set before."""
        self._due_at[session] = at
        entry = self._entry_at.get(session)
        if entry is None or at < entry:
            self._entry_at[session] = at
            heapq.heappush(self._heap, (at, session))
            if len(self._heap) > 2 * len(self._entry_at) + MAX_DEAD_ENTRIES:
                self._heap = [(at, session) for session, at in self._entry_at.items()]
                heapq.heapify(self._heap)

    def __len__(self) -> int:
        """Entries that are kept, dead ones too."""
        return len(self._heap)

    def drop(self, session: str) -> None:
        """Never wake for this session again."""
        self._due_at.pop(session, None)
        self._entry_at.pop(session, None)

    def due(self, now: float) -> list[str]:
        """Sessions whose time has come, earliest first; their timers are spent."""
        woken = []
        while (first := self.next_at()) is not None and first <= now:
            _, session = heapq.heappop(self._heap)
            del self._entry_at[session], self._due_at[session]
            woken.append(session)
        return woken

    def next_at(self) -> float | None:
        """The earliest time anything is due; None without timers."""
        while self._heap:
            at, session = self._heap[0]
            if self._entry_at.get(session) != at:  # dead
                heapq.heappop(self._heap)
            elif self._due_at[session] > at:  # moved back meanwhile
                due = self._entry_at[session] = self._due_at[session]
                heapq.heapreplace(self._heap, (due, session))
            else:
                return at
        return None
