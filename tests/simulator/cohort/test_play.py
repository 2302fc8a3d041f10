"""Cohorts of objective `latency`, played by the services: the formula's latency comes out, and what changes it."""

from dataclasses import replace

import pytest

from shared.planning.latency.cohort import Cohort
from shared.planning.latency.latency_solver import solve
from shared.planning.latency.paper_cell import Setting, paper_cohort
from simulator.cohort.play import Assumptions, play, uploads_s


def cohort(seed: int = 1, users: int = 8, output: int = 200, drafter: float = 10.0) -> Cohort:
    drawn = paper_cohort(seed, Setting(bits_per_token=12_288.0, drafter_scale=drafter), users=users)
    return replace(drawn, outputs=(output,) * users)


@pytest.mark.parametrize(("seed", "drafter"), [(1, 1.0), (2, 10.0), (3, 30.0)])
def test_the_services_take_as_long_as_the_formula_says(seed: int, drafter: float) -> None:
    known = cohort(seed, drafter=drafter)
    plan = solve(known)
    assert play(known, plan) == pytest.approx(plan.latency_ms, rel=0.03)


def test_every_prompt_is_carried_when_the_plan_says() -> None:
    known = cohort(4, users=20)
    plan = solve(known)
    assert uploads_s(known, plan) == pytest.approx([ms / 1e3 for ms in plan.upload_ms], rel=0.02)
    assert uploads_s(replace(known, cells=()), plan) == [0.0] * 20


def test_prompts_that_take_their_time_make_it_later() -> None:
    known = cohort()
    plan = solve(known)
    assert play(known, plan, Assumptions(free_prompts=False)) > play(known, plan) + 100


@pytest.mark.parametrize("policy", ["", "outrider-latency", "greedy-batch"])
def test_chance_and_deployed_policies_play_too(policy: str) -> None:
    known = cohort()
    plan = solve(known)
    assert play(known, plan, Assumptions(even_acceptance=False, policy=policy)) > 0.5 * plan.latency_ms


def test_devices_of_their_own_are_refused() -> None:
    known = cohort()
    with pytest.raises(ValueError, match="one node"):
        play(replace(known, drafter=None), solve(known))
