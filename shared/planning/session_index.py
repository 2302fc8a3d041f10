"""One verifier's sessions, indexed as policies ask for them, so that a decision does not cost O(sessions)."""

from collections.abc import Collection, Iterable, Iterator, Sequence

from shared.planning.views import SessionView

BEFORE_ALL = float("-inf")


class SessionIndex:
    """Sessions by phase and by *lane*: a policy's batches in cycle order (one lane for those without a cycle).

    A session keeps its lane while it lives, unless a lane has two members more than another: then the newest
    moves over. Lanes that a plan has dealt stay as they are. A lane is *busy* while a member drafts or is verified in
    the lane's own batch; a member that rides in another lane's batch does not hold its own lane up.
    """

    def __init__(self, lanes: int = 1) -> None:
        self._planned = False  # by a plan
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
        """How many lanes there are."""
        return len(self._members)

    def lane(self, session: str) -> int:
        """The lane of a session."""
        return self._lane_of[session]

    def put(self, view: SessionView) -> None:
        """Add a session, or take its new state."""
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
        """Forget a session; unknown ones are fine."""
        if session not in self._views:
            return
        self._unindex(session)
        del self._views[session]
        del self._members[self._lane_of.pop(session)][session]
        self._riding.discard(session)
        self._passed.pop(session, None)
        self._balance()

    def closed(self, lane: int, rows: Iterable[str], now: float) -> None:
        """A lane's batch of these sessions is being staged; call it before they turn to `verifying`.

        Ready members left out of it (more than fit) count as passed over.
        """
        self._closed_at[lane] = now
        chosen = set(rows)
        self._riding |= {session for session in chosen if self._lane_of[session] != lane}
        self._passed.update((session, None) for session in self._ready[lane] if session not in chosen)

    def balanced(self, lanes: int) -> "SessionIndex":
        """The same sessions dealt anew, for another policy."""
        index = SessionIndex(lanes)
        for view in sorted(self, key=lambda v: v.joined):
            index.put(view)
        return index

    def assign_lanes(self, batches: Sequence[Sequence[str]]) -> "SessionIndex":
        """The same sessions in a plan's batches; those that it does not know in the smallest.

        Who is being verified with its lane goes on to hold it up if it stays in it, so that a lane that gets a
        newcomer is not torn apart.
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

    # --- what policies ask ----------------------------------------------------------------------------
    def ready(self, lane: int) -> list[SessionView]:
        """Ready members of a lane, longest waiting first."""
        return sorted(self._ready[lane].values(), key=_by_wait)

    def ready_count(self, lane: int) -> int:
        """How many members of a lane are ready."""
        return len(self._ready[lane])

    def busy(self, lane: int) -> int:
        """Members of a lane that its next batch waits for."""
        return self._busy[lane]

    def members(self, lane: int) -> int:
        """How many sessions a lane has, in whatever phase."""
        return len(self._members[lane])

    def drafting(self, lane: int) -> Collection[SessionView]:
        """Members of a lane whose devices have the move."""
        return self._drafting[lane].values()

    def verifying(self, lane: int) -> int:
        """Members of a lane that are being verified in the lane's own batch."""
        return self._busy[lane] - len(self._drafting[lane])

    def closed_at(self, lane: int) -> float:
        """When the lane's last batch closed; minus infinity before the first."""
        return self._closed_at[lane]

    def passed_over(self) -> list[SessionView]:
        """Ready sessions that their lane's last batch had no room for, longest waiting first."""
        return sorted((self._views[session] for session in self._passed), key=_by_wait)

    def prefills(self) -> list[SessionView]:
        """Sessions whose next chunk waits to be staged, in order of arrival."""
        return sorted(self._prefill.values(), key=lambda v: v.joined)

    def prefill_count(self) -> int:
        """How many chunks wait to be staged."""
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
        self._busy[lane] += self._holds_up(view)

    def _unindex(self, session: str) -> None:
        view, lane = self._views[session], self._lane_of[session]
        self._ready[lane].pop(session, None)
        self._drafting[lane].pop(session, None)
        self._prefill.pop(session, None)
        self._busy[lane] -= self._holds_up(view)

    def _holds_up(self, view: SessionView) -> bool:
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
            self._riding.add(session)  # in a batch of the lane it has left
        self._index(view)


def _by_wait(view: SessionView) -> tuple[float, int]:
    return view.since, view.joined
