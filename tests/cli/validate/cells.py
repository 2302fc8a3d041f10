"""Cells and live runs made by hand."""

from typing import Any

from cli.validate.cell import Cell, LiveRepeat
from cli.validate.run_metrics import RunMetrics, Spread
from shared.scenario.scenario import PolicyConfig
from simulator.scenario import SimulatedScenario

SCENARIO = {
    "about": "a test",
    "devices": [{"count": 2, "alpha": 0.8, "draft": "9 ms", "link": {"delay": "5 ms"}}],
    "workload": {"prompt": 40, "answer": 48, "think": "0.1..0.2 s"},
    "policies": ["greedy-batch", {"policy": "fixed-k", "k": 4}],
}


def cell(k: int = 4, about: str = "modelled", **changes: Any) -> Cell:
    """A cell of fixed-k; k = 0: of greedy-batch."""
    fields = SimulatedScenario.model_validate(SCENARIO | changes)
    policy = PolicyConfig(policy="fixed-k", k=k) if k else PolicyConfig(policy="greedy-batch")
    return Cell("near", fields, policy, 1.0, 4.0, about)


def repeat(
    round_ms: float = 100.0,
    ttft_ms: float = 80.0,
    pass_ms: float = 40.0,
    commit_ms: float = 1.0,
    drift: float = 0.0,
) -> LiveRepeat:
    """A live run."""

    def spread(ms: float) -> Spread:
        return Spread(mean=ms, p50=ms, p95=ms)

    seen = RunMetrics(
        tokens_per_s=30.0,
        ttft=spread(ttft_ms),
        tpot=spread(round_ms / 3),
        round=spread(round_ms),
        requests=9,
        rates=(30.0, 31.0),
    )
    stack = {"mean_pass_ms": pass_ms, "mean_commit_ms": commit_ms, "verifier_utilisation": 0.4}
    return LiveRepeat(metrics=seen, probes_ms=(50.0, 50.0 * (1 + drift)), stack=stack)
