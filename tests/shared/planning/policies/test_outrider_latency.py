"""`outrider-latency`: its two ways of serving, and which of them it takes."""

from math import ceil

import pytest

from shared.planning.cost import Packed
from shared.planning.policies.outrider_latency import MAX_DRAFT, OutriderLatency, each_alone, in_turns
from shared.planning.problem import PackedServer
from shared.planning.strategies.user_arrays import users_of
from tests.shared.planning.session_views import SERVER, view

FLAT = PackedServer(Packed(5.0, 0.0, 0.0), 1e9, 1.0)
QUICK = PackedServer(Packed(5.0, 0.1, 0.0), 1e9, 1.0)


def test_every_session_that_can_draft_has_a_length_and_a_batch() -> None:
    views = [view(0, can_draft=False), view(1, remaining=0), *(view(n) for n in range(2, 9))]
    plan = OutriderLatency().plan(views, SERVER, 64, None)
    assert plan is not None
    known = [f"s{n}" for n in range(2, 9)]
    assert sorted(s for batch in plan.batches for s in batch) == sorted(plan.lengths) == known
    assert all(1 <= length <= MAX_DRAFT for length in plan.lengths.values())
    assert 0 < plan.busy <= 1


def test_there_is_no_plan_without_sessions_that_draft() -> None:
    assert OutriderLatency().plan([view(0, can_draft=False)], SERVER, 64, None) is None


def test_where_links_decide_nobody_near_waits_for_somebody_far() -> None:
    views = [view(n, link_s=0.01 if n < 4 else 2.0) for n in range(8)]
    plan = OutriderLatency().plan(views, QUICK, 64, None)
    assert plan is not None
    for batch, awaited in zip(plan.batches, plan.min_ready, strict=True):
        links = {views[int(session[1:])].link_s for session in batch}
        assert len(links) == 1 or awaited == 1


def test_far_devices_draft_further_where_nobody_waits_for_anybody() -> None:
    views = [view(0, link_s=0.01), view(1, link_s=2.0)]
    way = each_alone(users_of(views), (200, 200), QUICK)
    assert way.lengths[1] > way.lengths[0]


def test_the_way_that_ends_earlier_is_taken() -> None:
    """A server whose passes take as long as drafting: two batches in turns keep it busy without waiting."""
    server = PackedServer(Packed(2.0, 8.0, 0.0), 1e9, 1.0)
    views = [view(n, draft_s_per_token=0.01, link_s=0.0) for n in range(8)]
    users, outputs = users_of(views), tuple(one.remaining for one in views)
    alone, (turns,) = each_alone(users, outputs, server), in_turns(users, outputs, server, 64)
    plan = OutriderLatency().plan(views, server, 64, None)
    assert plan is not None
    assert turns.latency_ms < alone.latency_ms
    assert plan.min_ready == turns.min_ready
    assert sorted(len(batch) for batch in plan.batches) == sorted(map(len, turns.batches))


def test_batches_beyond_the_rows_of_a_pass_are_not_planned() -> None:
    views = [view(n) for n in range(6)]
    assert in_turns(users_of(views), (10,) * 6, QUICK, 1) == []
    assert in_turns(users_of(views), (10,) * 6, PackedServer(QUICK.law, 1.0, 1.0), 64) == []


def test_each_alone_takes_the_length_that_ends_a_session_soonest() -> None:
    (user,) = users = users_of([view(0, alpha=0.8, draft_s_per_token=0.01, link_s=0.5)])
    way = each_alone(users, (60,), FLAT)

    def end_ms(length: int) -> float:
        rounds = ceil(60 * (1 - user.alpha) / (1 - user.alpha ** (length + 1)))
        busy = 5.0 / (user.ready_ms(way.lengths[0]) + 5.0)
        return rounds * (user.ready_ms(length) + 5.0 * (1 + busy / 2))

    assert way.lengths[0] == min(range(1, MAX_DRAFT + 1), key=end_ms)
    assert way.latency_ms == pytest.approx(end_ms(way.lengths[0]))
