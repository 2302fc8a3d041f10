"""`outrider`: its plans, and when it closes a batch."""

from dataclasses import replace

import pytest

from shared.planning.policies.outrider import LEAD_S, UNPLANNED_K, Outrider
from shared.planning.policy import Plan, Selection
from shared.planning.session_index import SessionIndex
from shared.planning.strategies.probing import PROBE_INTERVAL_TOKENS, PROBE_LENGTH
from shared.planning.views import LATE_S, Phase, VerifierView
from tests.shared.planning.session_views import SERVER, view

POLICY = Outrider()
NOW = 10.0


def plan(*batches: tuple[str, ...], min_ready: tuple[int, ...], k: int = 3, max_rows: int = 64) -> Plan:
    lengths = {session: k for batch in batches for session in batch}
    return Plan(batches, lengths, min_ready, max_rows, 100.0, 100.0, 1.0)


def indexed(made: Plan, **phases: Phase) -> SessionIndex:
    """Sessions s0, s1, ... in these phases for the last 10 ms; a drafting one was told 3 tokens of 12 ms."""
    sessions = SessionIndex()
    for n, (name, phase) in enumerate(phases.items()):
        one = replace(
            view(n), session=name, phase=phase, since=NOW - 0.01, drafted=3 if phase == "ready" else 0
        )
        sessions.put(replace(one, requested=3) if phase == "drafting" else one)
    return sessions.assign_lanes(made.batches)


def free(in_flight: int = 0, expected_free: float = NOW, max_rows: int = 64) -> VerifierView:
    return VerifierView("v", in_flight, in_flight, expected_free, max_rows)


ALL = plan(("s0", "s1", "s2"), min_ready=(3,))
TWO = plan(("s0", "s1", "s2"), min_ready=(2,))
DUE = NOW - 0.01 + 3 * 0.012 + 0.004 + LATE_S


def test_a_lane_closes_when_the_planned_number_is_ready() -> None:
    few = indexed(TWO, s0="ready", s1="drafting", s2="drafting")
    assert POLICY.select(few, free(), TWO, NOW).rows == ()
    enough = indexed(TWO, s0="ready", s1="ready", s2="drafting")
    assert POLICY.select(enough, free(), TWO, NOW).rows == ("s0", "s1")


def test_a_lane_waits_only_for_drafts_that_are_on_time() -> None:
    some = indexed(ALL, s0="ready", s1="ready", s2="drafting")
    waiting = POLICY.select(some, free(), ALL, NOW)
    assert waiting.rows == ()
    assert waiting.wait_until == pytest.approx(DUE)
    assert POLICY.select(some, free(), ALL, DUE + 0.001).rows == ("s0", "s1")


def test_a_probe_does_not_count_towards_min_ready() -> None:
    """s0 and s1 do not draft, s2 does, s3 is being probed: the lane does not wait for s2 in its place."""
    mixed = replace(
        plan(("s0", "s1", "s2", "s3"), min_ready=(3,)), lengths={"s0": 0, "s1": 0, "s2": 3, "s3": 0}
    )
    some = indexed(mixed, s0="ready", s1="ready", s2="drafting", s3="drafting")
    assert POLICY.select(some, free(), mixed, NOW).rows == ("s0", "s1")


def test_no_lane_waits_for_a_probe() -> None:
    stays = replace(ALL, lengths={"s0": 0, "s1": 0, "s2": 0})
    some = indexed(stays, s0="ready", s1="ready", s2="drafting")
    assert POLICY.select(some, free(), stays, NOW).rows == ("s0", "s1")


def test_a_batch_closes_just_before_the_verifier_is_free() -> None:
    all_ready = indexed(ALL, s0="ready", s1="ready", s2="ready")
    early = POLICY.select(all_ready, free(1, NOW + 0.05), ALL, NOW)
    assert early.rows == ()
    assert early.wait_until == pytest.approx(NOW + 0.05 - LEAD_S)
    assert len(POLICY.select(all_ready, free(1, NOW + LEAD_S / 2), ALL, NOW).rows) == 3
    assert POLICY.select(all_ready, free(2), ALL, NOW).rows == ()


def test_a_batch_waits_for_verdicts_of_sessions_that_will_not_draft() -> None:
    mixed = replace(TWO, lengths={"s0": 3, "s1": 3, "s2": 0})
    sessions = indexed(mixed, s0="ready", s1="ready", s2="verifying")
    assert POLICY.select(sessions, free(1, NOW), mixed, NOW) == Selection()
    assert POLICY.select(sessions, free(1, NOW), TWO, NOW).rows == ("s0", "s1")


def test_the_lane_that_waits_longest_is_first_and_includes_sessions_without_drafts() -> None:
    made = plan(("s0", "s1"), ("s2", "s3"), min_ready=(2, 1))
    sessions = indexed(made, s0="ready", s1="ready", s2="ready", s3="ready")
    sessions.put(replace(view(2), session="s2", since=NOW - 0.05, drafted=3))
    sessions.put(replace(view(1), session="s1", since=NOW, drafted=0))
    chosen = POLICY.select(sessions, free(), made, NOW)
    assert (chosen.lane, chosen.rows) == (1, ("s2", "s3", "s1"))


def test_rows_are_bounded_by_plan_and_verifier() -> None:
    small = replace(ALL, max_rows=2)
    all_ready = indexed(small, s0="ready", s1="ready", s2="ready")
    assert len(POLICY.select(all_ready, free(), small, NOW).rows) == 2
    assert len(POLICY.select(all_ready, free(max_rows=1), small, NOW).rows) == 1


def test_without_a_plan_a_batch_waits_for_all() -> None:
    some = indexed(plan(min_ready=()), s0="ready", s1="drafting")
    assert POLICY.select(some, free(), None, NOW).rows == ()
    assert POLICY.select(some, free(), None, DUE + 0.001).rows == ("s0",)
    assert POLICY.next_length(view(0), None, NOW) == UNPLANNED_K


def test_lengths_are_the_plan_s_and_k_0_is_probed_now_and_then() -> None:
    assert POLICY.next_length(view(0), ALL, NOW) == 3
    assert POLICY.next_length(view(9), replace(ALL, newcomer_length=5), NOW) == 5
    none = plan(("s0",), min_ready=(1,), k=0)
    query = [POLICY.next_length(view(0, length=n), none, NOW) for n in range(4 * PROBE_INTERVAL_TOKENS)]
    assert query.count(PROBE_LENGTH) == 4
    assert query.count(0) == len(query) - 4


@pytest.mark.parametrize("objective", ["throughput", "fair"])
def test_a_plan_has_all_sessions_and_is_kept_where_it_is_good(objective: str) -> None:
    policy = Outrider(objective)  # type: ignore[arg-type]
    views = [view(n, draft_s_per_token=0.01 * (1 + n)) for n in range(9)]
    made = policy.plan(views, SERVER, 64, None)
    assert made is not None
    assert (
        sorted(s for batch in made.batches for s in batch)
        == sorted(made.lengths)
        == sorted(v.session for v in views)
    )
    assert len(made.min_ready) == len(made.batches)
    assert all(1 <= n <= len(batch) for n, batch in zip(made.min_ready, made.batches, strict=True))
    again = policy.plan(views, SERVER, 64, made)
    assert again is not None
    if objective == "throughput":
        assert again.tokens_per_s >= made.tokens_per_s * (1 - 1e-9)


def test_a_plan_follows_sessions_that_join_and_leave() -> None:
    views = [view(n) for n in range(6)]
    made = POLICY.plan(views, SERVER, 64, None)
    now = [*views[2:], view(8), view(9)]
    later = POLICY.plan(now, SERVER, 64, made)
    assert later is not None
    assert set(later.lengths) == {v.session for v in now}
    assert POLICY.plan([], SERVER, 64, later) is None


def test_names() -> None:
    assert (Outrider().name, Outrider("fair").name) == ("outrider", "outrider-fair")
