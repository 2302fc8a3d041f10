"""The session index against plain counts."""

from dataclasses import replace
from typing import Any, get_args

from hypothesis import given
from hypothesis import strategies as st

from shared.planning.session_index import SessionIndex
from shared.planning.views import Phase
from tests.shared.planning.policies.test_policies import session

PHASES = get_args(Phase)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 7), st.sampled_from(PHASES)),
        st.tuples(st.just("drop"), st.integers(0, 7), st.just("")),
        st.tuples(st.just("close"), st.integers(0, 2), st.just("")),
    ),
    max_size=60,
)


@given(st.integers(1, 3), STEPS)
def test_indices_agree_with_the_sessions(lanes: int, steps: list[tuple[str, int, Any]]) -> None:
    index = SessionIndex(lanes)
    for at, (what, number, phase) in enumerate(steps):
        if what == "put":
            index.put(replace(session(f"s{number}", "ready", since=at), phase=phase, joined=number))
        elif what == "drop":
            index.drop(f"s{number}")
        else:
            lane = number % lanes
            rows = [view.session for view in index.ready(lane)][:2]
            views = {view.session: view for view in index}
            index.closed(lane, rows, at)
            for row in rows:
                index.put(replace(views[row], phase="verifying", since=at))
        check(index)


def test_assigned_lanes_keep_each_session_once() -> None:
    index = SessionIndex()
    for number, phase in enumerate(PHASES):
        index.put(replace(session(f"s{number}", "ready"), phase=phase, joined=number))
    assigned = index.assign_lanes([("s0", "s1", "gone"), ("s2", "s3", "s4")])
    assert {view.session for view in assigned} == {view.session for view in index}
    assert [assigned.lane(f"s{n}") for n in range(5)] == [0, 0, 1, 1, 1]
    for number in range(len(PHASES)):  # all sessions become ready again
        assigned.put(replace(session(f"s{number}", "ready"), joined=number))
    assert [assigned.busy(lane) for lane in range(2)] == [0, 0]
    assert sum(assigned.ready_count(lane) for lane in range(2)) == len(PHASES)
    assigned.drop("s3")
    assert assigned.members(1) >= 2  # a plan's lanes are not balanced


def check(index: SessionIndex) -> None:
    views = {view.session: view for view in index}
    sizes = [0] * index.lanes
    for name in views:
        sizes[index.lane(name)] += 1
    assert max(sizes) - min(sizes) <= 1
    for lane in range(index.lanes):
        members = [view for name, view in views.items() if index.lane(name) == lane]
        ready = sorted((v for v in members if v.phase == "ready"), key=lambda v: (v.since, v.joined))
        assert index.ready(lane) == ready
        assert index.ready_count(lane) == len(ready)
        drafting = sum(v.phase == "drafting" for v in members)
        verifying = sum(v.phase == "verifying" for v in members)
        assert drafting <= index.busy(lane) <= drafting + verifying
    assert all(view.phase == "ready" for view in index.passed_over())
    assert {v.session for v in index.prefills()} == {n for n, v in views.items() if v.phase == "prefill"}
    assert index.prefill_count() == len(index.prefills())


def test_balanced_lanes_keep_all_sessions() -> None:
    index = SessionIndex(1)
    for number in range(5):
        index.put(replace(session(f"s{number}", "ready"), joined=number))
    assigned = index.balanced(2)
    assert [assigned.lane(f"s{number}") for number in range(5)] == [0, 1, 0, 1, 0]
    assert {view.session for view in assigned} == {view.session for view in index}
