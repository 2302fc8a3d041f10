"""The outcome of a run: its metrics, and whether it is valid and meets its assertions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from loadgen.metrics.result_metrics import grouped, run_metrics
from loadgen.metrics.slo import Assertion
from loadgen.metrics.summary import Window, dispatch_ms, spread
from loadgen.run.drive import RunState
from shared.protocol.messages import Span


@dataclass(frozen=True, slots=True)
class Criteria:
    """Which part of a run counts, and when it is valid.

    warmup_s, cooldown_s: seconds of arrivals that are not counted. goodput: limits in ms, by name.
    """

    warmup_s: float = 0.0
    cooldown_s: float = 0.0
    max_dispatch_ms: float = 10.0
    goodput: Mapping[str, float] = field(default_factory=dict)
    assertions: Sequence[Assertion] = ()


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """The result of a run. problems: why it is not valid; failed: failed assertions; body: of the result file."""

    metrics: Mapping[str, Any]
    problems: Sequence[str]
    failed: Sequence[str]
    body: Mapping[str, Any]
    spans: Sequence[Span] = ()


def outcome_of(
    criteria: Criteria, state: RunState, stack: Mapping[str, Any], problems: list[str]
) -> RunOutcome:
    """Judge a run. stack: metrics of its services, empty without any; problems: known already, extended here."""
    window = _window(criteria, state)
    metrics = run_metrics(state.records, window, criteria.goodput)
    if window.end <= window.start:
        problems.append("no time is left between warm-up and cool-down")
    if not metrics["completed"]:
        problems.append("no request was completed")
    late = spread(map(dispatch_ms, state.records)).p99
    if late > criteria.max_dispatch_ms:
        problems.append(
            f"the load generator itself was late: dispatch delay p99 {late:.1f} ms, over {criteria.max_dispatch_ms:g}"
        )
    failed = [why for assertion in criteria.assertions if (why := assertion.fails({**metrics, **stack}))]
    body = {
        "partial": state.stop.is_set(),
        "valid": not problems,
        "problems": problems,
        "failed_assertions": failed,
        "window": {"start": window.start - state.started, "end": window.end - state.started},
        "figures": metrics,
        "by_kind": grouped(state.records, window, lambda record: record.request.kind),
        "by_group": grouped(state.records, window, lambda record: record.request.group),
        "stack": stack,
    }
    return RunOutcome(metrics, problems, failed, body)


def _window(criteria: Criteria, state: RunState) -> Window:
    """The counted window: from warm-up to cool-down, or from the first arrival to the last end without either."""
    start = state.started + criteria.warmup_s
    if criteria.cooldown_s or criteria.warmup_s:
        return Window(start, max(start, state.last_due - criteria.cooldown_s))
    return Window(start, max((record.ended for record in state.records), default=start))
