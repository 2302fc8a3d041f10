"""The sessions of one verifier, indexed by phase and lane, so that a decision does not take O(sessions)."""

from collections.abc import Collection, Iterable, Iterator, Sequence

from shared.planning.views import SessionView

BEFORE_ALL = float("-inf")


class SessionIndex:
    """Sessions by phase and by lane. Lanes are the batches of a cycle; policies without a cycle have one lane.

    A session keeps its lane for life. The exception: when a lane has two members more than another, its newest member
    moves, unless a plan assigned the lanes. A lane is *busy* while a member drafts or is verified in the lane's own
    batch. A member that is verified in another lane's batch does not make its own lane busy.
    """

    def __init__(self, lanes: int = 1) -> None:
        self._planned = False  # whether a plan assigned the lanes
        self._views: dict[str, SessionView] = {}
        self._lane_of: dict[str, int] = {}
        self._members: list[dict[str, None]] = [{} for _ in range(lanes)]
        self._ready: list[dict[str, SessionView]] = [{} for _ in range(lanes)]
        self._drafting: list[dict[str, SessionView]] = [{} for _ in range(lanes)]
        self._busy: list[int] = [0] * lanes
        self._closed_at: list[float] = [BEFORE_ALL] * lanes
        self._prefill: dict[str, SessionView] = {}
        self._riding: set[str] = set()
        self._passed: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._views)

    def __iter__(self) -> Iterator[SessionView]:
        return iter(self._views.values())

    def __contains__(self, session: str) -> bool:
        return session in self._views

    @property
    def lanes(self) -> int:
        """The number of lanes."""
        return len(self._members)

    def lane(self, session: str) -> int:
        """The lane of a session."""
        return self._lane_of[session]

    def put(self, view: SessionView) -> None:
        """Add a session or update its view."""
        session = view.session
        if session in self._views:
            self._unindex(session)
        elif session not in self._lane_of:
            lane = min(range(self.lanes), key=lambda n: len(self._members[n]))
            self._lane_of[session] = lane
            self._members[lane][session] = None
        if view.phase != "verifying":
            self._riding.discard(session)
        if view.phase != "ready":
            self._passed.pop(session, None)
        self._views[session] = view
        self._index(view)

    def drop(self, session: str) -> None:
        """Remove a session. Unknown sessions are ignored."""
        if session not in self._views:
            return
        self._unindex(session)
        del self._views[session]
        del self._members[self._lane_of.pop(session)][session]
        self._riding.discard(session)
        self._passed.pop(session, None)
        self._balance()

    def closed(self, lane: int, rows: Iterable[str], now: float) -> None:
        """Record that a lane's batch of these sessions is staged. Call it before they become `verifying`.

        Ready members that did not fit into the batch count as passed over.
        """
        self._closed_at[lane] = now
        chosen = set(rows)
        self._riding |= {session for session in chosen if self._lane_of[session] != lane}
        self._passed.update((session, None) for session in self._ready[lane] if session not in chosen)

    def balanced(self, lanes: int) -> "SessionIndex":
        """The same sessions in equally large lanes, for another policy."""
        index = SessionIndex(lanes)
        for view in sorted(self, key=lambda v: v.joined):
            index.put(view)
        return index

    def assign_lanes(self, batches: Sequence[Sequence[str]]) -> "SessionIndex":
        """The same sessions in a plan's batches; sessions that are not in the plan join the smallest lane.

        A session that is being verified in its lane's batch still makes the lane busy if it stays in that lane. So a
        lane that gains a newcomer keeps its members together.
        """
        index = SessionIndex(max(1, len(batches)))
        index._planned = True
        for lane, batch in enumerate(batches):
            for session in batch:
                if session in self._views:
                    index._lane_of[session] = lane
                    index._members[lane][session] = None
        index._riding = {
            view.session
            for view in self
            if view.phase == "verifying"
            and (
                view.session in self._riding
                or index._lane_of.get(view.session) != self._lane_of[view.session]
            )
        }
        for view in sorted(self, key=lambda v: v.joined):
            index.put(view)
        return index

    # --- queries of policies -----------------------------------------------------------------------------
    def ready(self, lane: int) -> list[SessionView]:
        """Ready members of a lane, the longest waiting first."""
        return sorted(self._ready[lane].values(), key=_by_wait)

    def ready_count(self, lane: int) -> int:
        """The number of ready members of a lane."""
        return len(self._ready[lane])

    def busy(self, lane: int) -> int:
        """The number of members that the lane's next batch waits for."""
        return self._busy[lane]

    def members(self, lane: int) -> int:
        """The number of sessions of a lane, in any phase."""
        return len(self._members[lane])

    def drafting(self, lane: int) -> Collection[SessionView]:
        """Members of a lane whose devices are drafting."""
        return self._drafting[lane].values()

    def verifying(self, lane: int) -> int:
        """The number of members that are being verified in the lane's own batch."""
        return self._busy[lane] - len(self._drafting[lane])

    def closed_at(self, lane: int) -> float:
        """When the lane's last batch closed, in seconds; minus infinity before the first."""
        return self._closed_at[lane]

    def passed_over(self) -> list[SessionView]:
        """Ready sessions that did not fit into their lane's last batch, the longest waiting first."""
        return sorted((self._views[session] for session in self._passed), key=_by_wait)

    def prefills(self) -> list[SessionView]:
        """Sessions whose next prefill chunk waits to be staged, in order of arrival."""
        return sorted(self._prefill.values(), key=lambda v: v.joined)

    def prefill_count(self) -> int:
        """The number of prefill chunks that wait to be staged."""
        return len(self._prefill)

    # --- indices --------------------------------------------------------------------------------------
    def _index(self, view: SessionView) -> None:
        lane = self._lane_of[view.session]
        if view.phase == "ready":
            self._ready[lane][view.session] = view
        elif view.phase == "drafting":
            self._drafting[lane][view.session] = view
        elif view.phase == "prefill":
            self._prefill[view.session] = view
        self._busy[lane] += self._makes_busy(view)

    def _unindex(self, session: str) -> None:
        view, lane = self._views[session], self._lane_of[session]
        self._ready[lane].pop(session, None)
        self._drafting[lane].pop(session, None)
        self._prefill.pop(session, None)
        self._busy[lane] -= self._makes_busy(view)

    def _makes_busy(self, view: SessionView) -> bool:
        if view.phase == "verifying":
            return view.session not in self._riding
        return view.phase == "drafting"

    def _balance(self) -> None:
        sizes = [len(members) for members in self._members]
        if self._planned or max(sizes) - min(sizes) < 2:
            return
        lane = sizes.index(min(sizes))
        session = next(reversed(self._members[sizes.index(max(sizes))]))
        view = self._views[session]
        self._unindex(session)
        del self._members[self._lane_of[session]][session]
        self._lane_of[session] = lane
        self._members[lane][session] = None
        if view.phase == "verifying":
            self._riding.add(session)  # its batch belongs to the lane that it left
        self._index(view)


def _by_wait(view: SessionView) -> tuple[float, int]:
    return view.since, view.joined
