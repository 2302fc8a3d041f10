"""Little's law, L = λ W, on every queue of a loaded stack.

L is the broker's: the mean number of entries in a stream, or of live sessions. λ and W are others' accounts: of the
client's records and of the timeline that the services write. Without hops the two must agree to the microsecond.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pytest

from loadgen.run.drive import RunState
from loadgen.run.outcome import RunOutcome
from shared.protocol.keys import Keys
from shared.protocol.messages import Message, Span
from shared.scenario.scenario import PolicyConfig
from simulator.load import load_plan
from simulator.run import MODEL, simulate
from simulator.simulation import Simulation
from tests.simulator.runs import scenario
from tests.simulator.watched_server import WatchedServer

KEYS = Keys()
VERIFIER = "verifier-0"
MICROSECOND = 1e-6
UNWRITTEN_S = 1.5  # a device writes its timeline once a second, so its last spans are missing


@dataclass(frozen=True, slots=True)
class LoadedRun:
    """A loaded run with its broker, and the time from which on and until which it is looked at."""

    outcome: RunOutcome
    state: RunState
    server: WatchedServer
    start: float
    end: float

    def mean(self, key: str) -> float:
        """L, as the broker counts."""
        return self.server.levels[key].mean(self.start, self.end)

    def law(self, stays: Iterable[tuple[float, float]]) -> tuple[float, float, int]:
        """λ, W and the number of these stays (from, to); of one that reaches beyond the run, its part within."""
        within = [(max(since, self.start), min(until, self.end)) for since, until in stays]
        lengths = [until - since for since, until in within if until >= since]
        return len(lengths) / (self.end - self.start), sum(lengths) / len(lengths), len(lengths)

    def spans(self, role: str, kind: str) -> list[Span]:
        """The timeline's spans of one kind."""
        return [span for span in self.outcome.spans if (span.role, span.kind) == (role, kind)]


@pytest.fixture(params=["fixed-k", "cyclic-k", "outrider"])
def loaded(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> LoadedRun:
    """Six devices on one verifier that is busy for most of the time, under open load."""
    servers: list[WatchedServer] = []

    def watched(clock: Callable[[], float], encode: Callable[[Message], bytes]) -> WatchedServer:
        servers.append(WatchedServer(clock, encode))
        return servers[-1]

    monkeypatch.setattr("simulator.stack.MemoryServer", watched)
    what = scenario(
        core={"hop": "0 ms"},
        devices=[{"count": 6, "alpha": 0.7, "draft": "5 ms", "link": {"delay": "10 ms", "jitter": "5 ms"}}],
        load={"rate": 1.5, "requests": 25, "prompt-tokens": 32, "answer-tokens": "20..60"},
    )
    plan, state = load_plan(what.load or {}, what.seed, MODEL), RunState()
    config = PolicyConfig(policy=request.param, k=3)
    outcome = simulate(Simulation(what, config, what.seed, plan, trace=True), state)
    assert outcome.problems == []
    end = max(record.ended for record in state.records) - UNWRITTEN_S
    return LoadedRun(outcome, state, servers[0], state.started, end)


def assert_little(loaded: LoadedRun, key: str, stays: Iterable[tuple[float, float]]) -> None:
    per_s, stay_s, count = loaded.law(stays)
    assert count >= 20
    assert loaded.mean(key) == pytest.approx(per_s * stay_s, abs=2 * MICROSECOND * per_s)
    assert loaded.mean(key) > 0.01


@pytest.mark.slow
def test_littles_law(loaded: LoadedRun) -> None:
    records = loaded.state.records
    assert_little(loaded, KEYS.live, [(record.scheduled, record.ended) for record in records])

    # A draft stays from its arrival, which the device sees, until the batch that takes it is staged.
    taken = {(span.session, span.round): span.end_us for span in loaded.spans("scheduler", "wait")}
    arrived = {(span.session, span.round): span.end_us for span in loaded.spans("draft_worker", "link")}
    drafts = [(arrived[place] / 1e6, taken[place] / 1e6) for place in arrived.keys() & taken.keys()]
    assert len(drafts) == len(arrived)
    assert_little(loaded, KEYS.draft, drafts)

    # A batch stays from its staging until its verdicts are committed. One of prompts alone is staged for an idle
    # verifier, so it is passed at once.
    passes = {span.step: (span.start_us, span.end_us) for span in loaded.spans("verifier", "verify")}
    staged = {step: start for step, (start, _) in passes.items()}
    staged |= {span.step: span.end_us for span in loaded.spans("scheduler", "wait")}
    batches = [(staged[step] / 1e6, end / 1e6) for step, (_, end) in passes.items()]
    assert_little(loaded, KEYS.staged(VERIFIER), batches)

    # What the scheduler can handle at once does not wait.
    assert loaded.mean(KEYS.submit) == loaded.mean(KEYS.verdicts) == 0.0
