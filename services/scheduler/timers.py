"""One timer per session or verifier: O(log sessions) to set, and O(1) when a timer only moves to a later time."""

import heapq
from typing import Final

MAX_DEAD_ENTRIES: Final = 64  # so many dead entries are not worth a clean-up


class Timers:
    """Timers by name in a heap.

    The heap holds one live entry per session. Setting a later time leaves the entry in place; when it comes up, it
    is put back at the true time. Setting an earlier time adds an entry, and the old one is dead. Dead entries are
    removed when their time comes or when they outnumber the live ones; otherwise a deadline minutes away would keep
    one for every round.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, str]] = []
        self._entry_at: dict[str, float] = {}  # of the live entry in the heap
        self._due_at: dict[str, float] = {}

    def set(self, session: str, at: float) -> None:
        """Set the session's timer to `at`, replacing any earlier setting."""
        self._due_at[session] = at
        entry = self._entry_at.get(session)
        if entry is None or at < entry:
            self._entry_at[session] = at
            heapq.heappush(self._heap, (at, session))
            if len(self._heap) > 2 * len(self._entry_at) + MAX_DEAD_ENTRIES:
                self._heap = [(at, session) for session, at in self._entry_at.items()]
                heapq.heapify(self._heap)

    def __len__(self) -> int:
        """Entries in the heap, including dead ones."""
        return len(self._heap)

    def drop(self, session: str) -> None:
        """Remove the session's timer."""
        self._due_at.pop(session, None)
        self._entry_at.pop(session, None)

    def due(self, now: float) -> list[str]:
        """Sessions whose timers are due, earliest first; their timers are removed."""
        woken = []
        while (first := self.next_at()) is not None and first <= now:
            _, session = heapq.heappop(self._heap)
            del self._entry_at[session], self._due_at[session]
            woken.append(session)
        return woken

    def next_at(self) -> float | None:
        """Time of the earliest timer; None without timers."""
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
