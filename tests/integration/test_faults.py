"""Fault injection on a virtual clock with all services: texts are the target's, and all state is freed.

`python -m tests.harness` plays all single faults. Here is a sample of each kind, marked slow, and a quick one of each
operation.
"""

import logging
from dataclasses import replace

import pytest
import structlog

from shared.planning.policies import POLICY_NAMES
from simulator.faults import Fault
from tests.harness.cases import PLAIN, TWO_VERIFIERS, few, mixture, sampled, single_faults
from tests.harness.judge import play
from tests.harness.scenario import Cut, Death, Scenario


@pytest.fixture(autouse=True)
def _quiet() -> None:
    """Log errors only, since thousands of deaths would be logged."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


K = (*(pytest.param(k, marks=pytest.mark.slow) for k in (1, 4)), 8)


@pytest.mark.parametrize("k", K)
@pytest.mark.parametrize("policy", POLICY_NAMES)
def test_every_policy_gives_the_targets_text(policy: str, k: int) -> None:
    for users, sharing, verifiers in ((1, True, 1), (8, False, 1), (8, True, 2)):
        play(Scenario(policy, k, users, tokens=24, sharing=sharing, verifiers=verifiers, spread_s=0.3))


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_bad_and_perfect_drafts_give_the_same_text(alpha: float) -> None:
    play(Scenario(alpha=alpha, k=8, users=4, tokens=40))


def test_stop_tokens_end_a_text() -> None:
    for seed in range(1, 9):
        play(Scenario(stop_every=15, users=4, tokens=40, seed=seed))


@pytest.mark.parametrize("sharing", [True, False])
def test_a_pool_too_small_for_all_serves_all(sharing: bool) -> None:
    play(Scenario(kv_tokens=96, users=6, tokens=30, prompt=40, sharing=sharing))


def test_long_prompts_are_prefilled_in_chunks() -> None:
    play(Scenario(prompt=1500, users=3, tokens=12))


def survives(scenario: Scenario, faults: list[Fault]) -> None:
    assert faults
    for fault in faults:
        try:
            play(replace(scenario, faults=(fault,)))
        except AssertionError as error:
            raise AssertionError(f"{fault}: {error}") from error


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scenario", "each"), [(PLAIN, 2), (TWO_VERIFIERS, 1)], ids=["plain", "two verifiers"]
)
def test_any_single_fault_is_survived(scenario: Scenario, each: int) -> None:
    survives(scenario, sampled(single_faults(scenario), each))


def test_a_fault_at_each_operation_is_survived() -> None:
    survives(PLAIN, few(single_faults(PLAIN)))


MIXTURES = (*range(8), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(8, 100)))


@pytest.mark.parametrize("seed", MIXTURES)
def test_mixtures_of_faults_are_survived(seed: int) -> None:
    play(mixture(seed))


@pytest.mark.parametrize("role", ["scheduler", "gateway", "verifier-0", "device-0"])
def test_the_second_death_is_survived_like_the_first(role: str) -> None:
    faults = tuple(Fault(role, n, "die") for n in (30, 45, 60, 90))
    play(Scenario(users=4, tokens=40, faults=faults))


@pytest.mark.parametrize(
    ("gone", "verifiers"),
    [
        (("device-0",), 1),
        (("device-0", "device-1"), 1),
        (("verifier-0",), 2),
        (("verifier-1", "device-1"), 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_who_does_not_come_back_is_done_without(gone: tuple[str, ...], verifiers: int) -> None:
    play(
        Scenario(
            users=4, tokens=30, verifiers=verifiers, deaths=tuple(Death(name, back_s=None) for name in gone)
        )
    )


@pytest.mark.parametrize("outage_s", [0.5, 2.0, 4.5])
def test_a_broker_away_for_less_than_the_grace_only_pauses(outage_s: float) -> None:
    play(Scenario(users=4, tokens=30, cuts=(Cut(for_s=outage_s),)))


@pytest.mark.parametrize(
    ("outage_s", "wiped"), [(8.0, False), (30.0, False), (0.0, True), (2.0, True), (8.0, True)]
)
def test_a_broker_lost_ends_streams_and_new_ones_are_served(outage_s: float, wiped: bool) -> None:
    play(Scenario(users=4, tokens=60, cuts=(Cut(for_s=outage_s, wiped=wiped),)))
