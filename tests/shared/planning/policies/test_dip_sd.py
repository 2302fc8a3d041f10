"""`dip-sd`: its plans and its cycle."""

from dataclasses import replace

import pytest

from shared.planning.policies.dip_sd import DipSd
from shared.planning.problem import PackedServer, Prompts
from tests.shared.planning.policies.test_policies import Timeline
from tests.shared.planning.session_views import SERVER, view


def test_a_plan_has_each_session_that_can_draft_once() -> None:
    views = [view(0, can_draft=False), *(view(n, draft_s_per_token=0.01 * n) for n in range(1, 9))]
    plan = DipSd().plan(views, SERVER, 64, None)
    assert plan is not None
    assert (
        sorted(s for batch in plan.batches for s in batch)
        == sorted(plan.lengths)
        == [f"s{n}" for n in range(1, 9)]
    )
    assert min(plan.lengths.values()) >= 1
    assert plan.min_ready == tuple(len(batch) for batch in plan.batches)
    assert plan.tokens_per_s == pytest.approx(
        sum((1 - 0.78 ** (k + 1)) / 0.22 for k in plan.lengths.values()) / plan.cycle_ms * 1e3
    )


def test_prompts_lengthen_the_cycle() -> None:
    views = [view(n) for n in range(6)]
    plain = DipSd().plan(views, SERVER, 64, None)
    read = DipSd().plan(views, replace(SERVER, prompts=Prompts(0.002, 125.0)), 64, None)
    assert plain is not None
    assert read is not None
    assert read.lengths == plain.lengths
    assert read.cycle_ms == pytest.approx(plain.cycle_ms / 0.75)
    assert read.tokens_per_s == pytest.approx(plain.tokens_per_s * 0.75)
    assert read.busy == pytest.approx(0.75 * plain.busy + 0.25)


def test_a_newcomer_takes_the_median_length() -> None:
    plan = DipSd().plan([view(n, alpha=0.5 + 0.1 * n) for n in range(5)], SERVER, 64, None)
    assert plan is not None
    assert DipSd().next_length(view(9), plan, 0.0) == sorted(plan.lengths.values())[2]


def test_there_is_no_plan_without_sessions_or_memory() -> None:
    assert DipSd().plan([view(0, can_draft=False)], SERVER, 64, None) is None
    assert DipSd().plan([view(0)], PackedServer(SERVER.law, 100.0, 1.0), 64, None) is None


def test_planned_lanes_are_verified_in_turn_and_whole() -> None:
    line = Timeline(DipSd())
    line.add("a", "b", "c", phase="ready")
    line.sessions = line.sessions.assign_lanes([("a", "b"), ("c",)])
    assert line.select() == ("a", "b")
    assert line.select() == ("c",)
    line.become("drafting", "a", "b", "c")
    line.become("ready", "a", "c")
    assert line.select() == ()  # b is waited for, though c is ready
    line.become("ready", "b")
    assert line.select() == ("a", "b")
