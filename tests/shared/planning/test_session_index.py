"""The index of a cohort against a plain count."""

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
    cohort = SessionIndex(lanes)
    for at, (what, number, phase) in enumerate(steps):
        if what == "put":
            cohort.put(replace(session(f"s{number}", "ready", since=at), phase=phase, joined=number))
        elif what == "drop":
            cohort.drop(f"s{number}")
        else:
            lane = number % lanes
            rows = [view.session for view in cohort.ready(lane)][:2]
            views = {view.session: view for view in cohort}
            cohort.closed(lane, rows, at)
            for row in rows:
                cohort.put(replace(views[row], phase="verifying", since=at))
        check(cohort)


def test_a_deal_keeps_sessions_and_counts_nobody_twice() -> None:
    cohort = SessionIndex()
    for number, phase in enumerate(PHASES):
        cohort.put(replace(session(f"s{number}", "ready"), phase=phase, joined=number))
    dealt = cohort.assign_lanes([("s0", "s1", "gone"), ("s2", "s3", "s4")])
    assert {view.session for view in dealt} == {view.session for view in cohort}
    assert [dealt.lane(f"s{n}") for n in range(5)] == [0, 0, 1, 1, 1]
    for number in range(len(PHASES)):  # everybody comes back from wherever it was
        dealt.put(replace(session(f"s{number}", "ready"), joined=number))
    assert [dealt.busy(lane) for lane in range(2)] == [0, 0]
    assert sum(dealt.ready_count(lane) for lane in range(2)) == len(PHASES)
    dealt.drop("s3")
    assert dealt.members(1) >= 2  # a plan's lanes are not balanced


def check(cohort: SessionIndex) -> None:
    views = {view.session: view for view in cohort}
    sizes = [0] * cohort.lanes
    for name in views:
        sizes[cohort.lane(name)] += 1
    assert max(sizes) - min(sizes) <= 1
    for lane in range(cohort.lanes):
        members = [view for name, view in views.items() if cohort.lane(name) == lane]
        ready = sorted((v for v in members if v.phase == "ready"), key=lambda v: (v.since, v.joined))
        assert cohort.ready(lane) == ready
        assert cohort.ready_count(lane) == len(ready)
        drafting = sum(v.phase == "drafting" for v in members)
        verifying = sum(v.phase == "verifying" for v in members)
        assert drafting <= cohort.busy(lane) <= drafting + verifying
    assert all(view.phase == "ready" for view in cohort.passed_over())
    assert {v.session for v in cohort.prefills()} == {n for n, v in views.items() if v.phase == "prefill"}
    assert cohort.prefill_count() == len(cohort.prefills())


def test_dealing_anew_keeps_everybody() -> None:
    cohort = SessionIndex(1)
    for number in range(5):
        cohort.put(replace(session(f"s{number}", "ready"), joined=number))
    dealt = cohort.balanced(2)
    assert [dealt.lane(f"s{number}") for number in range(5)] == [0, 1, 0, 1, 0]
    assert set(dealt) == set(cohort)
