"""Fault seeds: one integer chooses a whole scenario. A fixed set of small ones here; `make fuzz-sim` plays new ones.

docs/notes/fault-seeds.md says what a seed chooses and what is judged.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from services.gateway.session import Emitted, GatewaySession
from services.verifier.sessions import VerifiedSessions
from shared.broker.memory_server import MemoryServer
from shared.compute.modelled_drafter import ModelledDrafter
from shared.protocol.messages import Verdict
from simulator.faults import Fault
from tests.harness import fuzz
from tests.harness.outcome import Outcome, outcome_of, read_scenario
from tests.harness.scenario import Clock, Cut, Death, Full, Pause, Scenario
from tests.harness.seeds import scenario_of
from tests.harness.shrink import shrink, simpler_ones

ROOT: Final = Path(__file__).resolve().parents[2]
QUICK: Final = 20
SLOW: Final = 1000
BLOCK: Final = 20  # seeds of one test


@pytest.mark.parametrize(
    "first",
    [
        *range(0, QUICK, BLOCK),
        *(pytest.param(first, marks=pytest.mark.slow) for first in range(QUICK, SLOW, BLOCK)),
    ],
)
def test_seeds_are_survived(first: int) -> None:
    failed = {
        seed: outcome.error
        for seed in range(first, first + BLOCK)
        if (outcome := outcome_of(scenario_of(seed, small=True))).error
    }
    assert not failed


# --- found by seeds and mended ---


def test_a_gateway_registers_again_while_a_beat_is_under_way() -> None:
    """Seed 458 of an earlier choice, shrunk: the gateway was superseded by itself (tests/shared/runtime)."""
    assert not outcome_of(
        Scenario(
            policy="outrider",
            k=0,
            users=3,
            tokens=2,
            prompt=23,
            schedulers=2,
            gateways=2,
            devices=4,
            sharing=False,
            alpha=0.0,
            draft_sessions=1,
            max_rows=1,
            prefill_tokens=16,
            trace=True,
            leavers=0.5,
            latency_s=0.03,
            duplicates=0.3,
            seed=459,
            cuts=(Cut(at_s=2.069, for_s=0.0, wiped=True),),
        )
    ).error


def test_a_verifier_starts_while_the_broker_has_no_memory() -> None:
    """It ended with an error, since the deployment's record was refused."""
    deaths, fulls = (Death("verifier-0", 0.5),), (Full(0.25, 3.0),)
    assert not outcome_of(Scenario(order=1, deaths=deaths, fulls=fulls)).error


@pytest.mark.parametrize(
    "scenario",
    [
        Scenario(  # seed 6046: a verifier split a batch and waited for room that it alone makes
            policy="greedy-batch",
            tokens=11,
            prompt=1,
            devices=0,
            stream_limit=4,
            spread_s=0.0,
            latency_s=0.03,
            loss=0.02,
            duplicates=0.3,
            seed=6047,
            order=6046,
            faults=(Fault("verifier-0", 81, "die_after"), Fault("verifier-0", 94, "die")),
        ),
        Scenario(  # seed 3407: lost Closes held the whole pool for a minute
            policy="cyclic-k",
            users=7,
            tokens=13,
            prompt=94,
            devices=1,
            kv_tokens=256,
            draft_ms=40.0,
            prefill_tokens=16,
            stream_limit=4,
            wishes=0.5,
            latency_s=0.005,
            seed=3408,
            order=3407,
            deaths=(Death("gateway", 2.142), Death("device-0", 0.732, None)),
            pauses=(Pause("scheduler", 0.821, 0.979),),
            clocks=(Clock("verifier-0", 71595.436, 0.9879),),
        ),
        Scenario(  # seed 8510: the judge's fault, the first error after a wipe was the verifier's
            policy="greedy-batch",
            users=1,
            tokens=1,
            prompt=1,
            schedulers=2,
            verifiers=3,
            devices=1,
            spread_s=1.0,
            latency_s=0.03,
            seed=8511,
            order=8510,
            cuts=(Cut(0.624, 0.0, wiped=True),),
            clocks=(Clock("scheduler-0", 71911.988, 0.9913),),
        ),
    ],
    ids=["6046", "3407", "8510"],
)
def test_what_seeds_found_is_mended(scenario: Scenario) -> None:
    assert not outcome_of(scenario).error


# --- what a seed is ---


def test_a_seed_chooses_everything() -> None:
    scenarios = [scenario_of(seed) for seed in range(300)]
    assert scenarios == [scenario_of(seed) for seed in range(300)]
    for name in (
        "policy",
        "k",
        "schedulers",
        "gateways",
        "verifiers",
        "devices",
        "stream_limit",
        "latency_s",
    ):
        assert len({getattr(scenario, name) for scenario in scenarios}) > 1, name
    for name in ("faults", "deaths", "stops", "cuts", "pauses", "fulls", "switches", "clocks"):
        assert {bool(getattr(scenario, name)) for scenario in scenarios} == {True, False}, name
    assert any(scenario.wiped for scenario in scenarios)
    assert any(scenario.gone for scenario in scenarios)


def test_a_scenario_is_read_from_what_is_printed() -> None:
    for seed in range(50):
        assert read_scenario(repr(scenario_of(seed))) == scenario_of(seed)
    for text in ("", "Cut()", "Scenario(users=open('x'))", "Scenario(friends=1)", "__import__('os')"):
        with pytest.raises(ValueError, match=r"not a scenario|malformed"):
            read_scenario(text)


@pytest.mark.slow
def test_a_seed_repeats_exactly_in_any_process() -> None:
    """Two processes with other hash seeds do the same, call by call, and so does this one."""
    seed = 5
    digests = {outcome_of(scenario_of(seed)).digest, outcome_of(scenario_of(seed)).digest}
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-m", "tests.harness.fuzz", "--seed", str(seed)],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        digests.add(done.stdout.split("digest ")[1].strip())
    assert len(digests) == 1
    assert outcome_of(scenario_of(seed).with_(seed=99)).digest not in digests


def test_the_order_of_events_changes_what_happens() -> None:
    busy = Scenario(users=4, verifiers=2, devices=3, spread_s=0.0, latency_s=0.0)
    digests = {outcome_of(busy.with_(order=order)).digest for order in (None, 1, 2, 3)}
    assert len(digests) == 4


# --- shrinking ---


def test_a_failure_is_shrunk_to_what_it_needs() -> None:
    scenario = next(
        chosen
        for chosen in map(scenario_of, range(1000))
        if len(chosen.faults) > 3 and len(chosen.deaths) > 1 and chosen.users > 4 and chosen.verifiers > 1
    )
    needed, tried = scenario.faults[2], 0

    def fails(candidate: Scenario) -> bool:
        nonlocal tried
        tried += 1
        return needed in candidate.faults and len(candidate.deaths) >= 1 and candidate.users >= 3

    smallest = shrink(scenario, fails, lambda: False)
    assert smallest.faults == (needed,)
    assert len(smallest.deaths) == 1
    assert (smallest.users, smallest.tokens, smallest.cuts, smallest.order) == (3, 1, (), None)
    assert tried < 400


def test_shrinking_ends_when_the_time_is_over() -> None:
    scenario = scenario_of(3)
    assert shrink(scenario, lambda candidate: True, lambda: True) == scenario


def test_a_simpler_scenario_names_no_process_that_is_not_there() -> None:
    for seed in range(200):
        for simpler in simpler_ones(scenario_of(seed)):
            known = {"", *simpler.names()}
            for events in (simpler.faults, simpler.deaths, simpler.stops, simpler.pauses, simpler.clocks):
                assert {event.process for event in events} <= known
            assert {cut.process for cut in simpler.cuts} <= known


def test_errors_are_alike_whatever_their_numbers_and_names() -> None:
    def kind(error: str) -> str:
        return Outcome(Scenario(), error, 0.0).kind

    assert kind("AssertionError: text: s0-a (stop): (1, 2)") == kind(
        "AssertionError: text: s0-b (length): (7,)"
    )
    assert kind("AssertionError: text: s0-a") != kind("AssertionError: text is not the log: s0-a")
    assert kind("Livelock: 3 turns at 0.5 s") == kind("Livelock: 4 turns at 7.0 s")


# --- the command ---


def test_the_command_plays_seeds_in_processes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        sys, "argv", ["fuzz", "--first", "40", "--count", "3", "--jobs", "2", "--minutes", "5"]
    )
    assert fuzz.main() == 0
    assert "3 seeds in" in capsys.readouterr().out


def test_a_failure_is_printed_shrunk_and_plays_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A pool that holds no prompt is not a fault, but it fails."""
    impossible = Scenario(kv_tokens=16, users=3, verifiers=2, deaths=(Death("device-0"),), order=1)
    monkeypatch.setattr(sys, "argv", ["fuzz", "--scenario", repr(impossible), "--shrink-s", "20"])
    assert fuzz.main() == 1
    printed = capsys.readouterr().out
    assert "again: python -m tests.harness.fuzz --scenario" in printed
    smallest = read_scenario(printed.split('--scenario "')[1].split('"')[0])
    assert (smallest.users, smallest.verifiers, smallest.deaths, smallest.kv_tokens) == (1, 1, (), 16)
    assert outcome_of(smallest).error


@pytest.mark.parametrize("argv", [["--jobs", "0"], ["--minutes", "0"], ["--count", "-1"]])
def test_a_wrong_option_is_refused(argv: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["fuzz", *argv])
    with pytest.raises(SystemExit, match="2"):
        fuzz.main()


# --- the judge is not blind ---


def repeated_verdicts_count_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    def apply(self: GatewaySession, verdict: Verdict) -> bool:
        self._advance(Emitted(self.index, verdict.tokens, verdict.logprobs), verdict.finish)
        return True

    monkeypatch.setattr(GatewaySession, "apply", apply)


def devices_keep_their_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ModelledDrafter, "forget", lambda self, session: None)


def verifiers_ignore_a_close(monkeypatch: pytest.MonkeyPatch) -> None:
    async def close(self: VerifiedSessions, session: str, epoch: int) -> None:
        return

    monkeypatch.setattr(VerifiedSessions, "close", close)
    monkeypatch.setattr("tests.harness.judge.FREE_S", 30.0)  # less than the sweep, which would mend it


def inboxes_do_not_expire(monkeypatch: pytest.MonkeyPatch) -> None:
    expire = MemoryServer.expire
    monkeypatch.setattr(
        MemoryServer, "expire", lambda self, key, ttl_s: None if "inbox" in key else expire(self, key, ttl_s)
    )


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (repeated_verdicts_count_twice, "text"),
        (devices_keep_their_caches, "left behind"),
        (verifiers_ignore_a_close, "left behind"),
        (inboxes_do_not_expire, "left behind: {'keys without expiry'"),
    ],
)
def test_a_fault_of_a_service_is_found(
    spoil: Callable[[pytest.MonkeyPatch], None], error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each breaks one promise; the first seeds notice."""
    spoil(monkeypatch)
    errors = (outcome_of(scenario_of(seed, small=True)).error for seed in range(BLOCK))
    assert any(found.startswith(f"AssertionError: {error}") for found in errors)
