"""Drift: when a plan no longer fits its sessions."""

from dataclasses import replace

import pytest

from shared.planning.cost import Packed
from shared.planning.drift import PlanInputs
from shared.planning.problem import PackedServer, Prompts
from tests.shared.planning.session_views import SERVER, view

VIEWS = [view(n) for n in range(3)]
BEFORE = PlanInputs.of(VIEWS, SERVER)


def test_noise_is_no_drift() -> None:
    now = [replace(v, alpha=0.8, link_s=0.0045, length=220) for v in VIEWS]
    assert BEFORE.same_sessions(now)
    assert not BEFORE.drifted(PlanInputs.of(now, SERVER))


@pytest.mark.parametrize(
    "change",
    [{"alpha": 0.6}, {"draft_s_per_token": 0.02}, {"link_s": 0.02}, {"spread_s": 0.003}, {"length": 5000}],
)
def test_changed_estimates_are_drift(change: dict[str, float]) -> None:
    now = [*VIEWS[:2], replace(VIEWS[2], **change)]  # type: ignore[arg-type]
    assert BEFORE.same_sessions(now)
    assert BEFORE.drifted(PlanInputs.of(now, SERVER))


def test_another_law_is_drift() -> None:
    assert BEFORE.drifted(PlanInputs.of(VIEWS, PackedServer(Packed(80.0, 1.2, 0.004))))


def test_more_prompts_are_drift() -> None:
    assert not BEFORE.drifted(PlanInputs.of(VIEWS, replace(SERVER, prompts=Prompts(0.0001, 150.0))))
    assert BEFORE.drifted(PlanInputs.of(VIEWS, replace(SERVER, prompts=Prompts(0.001, 150.0))))


def test_sessions_that_join_leave_or_lose_their_device_are_noticed() -> None:
    assert not BEFORE.same_sessions(VIEWS[:2])
    assert not BEFORE.same_sessions([*VIEWS, view(9)])
    assert not BEFORE.same_sessions([*VIEWS[:2], replace(VIEWS[2], can_draft=False)])
