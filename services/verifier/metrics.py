"""The verifier's metrics. docs/protocol.md lists their names."""

from collections.abc import Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from services.verifier.step_times import StepTimes
from shared.broker.contract import CommitOutcome
from shared.protocol.messages import Verdict
from shared.runtime.tally import Tally

NAME: Final = "outrider_verifier"
SECONDS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class Metrics:
    """Metrics of one verifier."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.batches = Counter(f"{NAME}_batches", "Completed batches", registry=registry)
        self.rounds = Tally(
            f"{NAME}_rounds",
            "Rows that committed tokens, by whether they had a draft",
            ("drafted",),
            registry=registry,
        )
        self.emitted = Tally(f"{NAME}_emitted_tokens", "Tokens committed", registry=registry)
        self._add_drafts(registry)
        self.queue = Histogram(
            f"{NAME}_queue_seconds",
            "Time from reading a batch to its forward pass, in seconds",
            buckets=SECONDS,
            registry=registry,
        )
        self.phase = Histogram(
            f"{NAME}_phase_seconds",
            "Time of a batch in seconds, by phase: load (session logs), prepare (KV pages), "
            "forward (with acceptance rule), commit",
            ["phase"],
            buckets=SECONDS,
            registry=registry,
        )
        self.fed = Counter(f"{NAME}_fed_tokens", "Tokens fed through the model", registry=registry)
        self.pages = Gauge(f"{NAME}_kv_pages", "KV pages, by use: used, free", ["use"], registry=registry)
        self.sessions = Gauge(f"{NAME}_sessions", "Known sessions", registry=registry)
        self.not_run = Counter(
            f"{NAME}_rows_not_run", "Rows that committed no tokens, by status", ["status"], registry=registry
        )
        self.outcomes = Tally(
            f"{NAME}_outcomes", "Rows in commits, by outcome", ("outcome",), registry=registry
        )
        self.refused = Counter(
            f"{NAME}_refused_messages", "Refused messages, by reason", ["reason"], registry=registry
        )
        self.forward_errors = Counter(
            f"{NAME}_forward_errors", "Forward passes that raised", registry=registry
        )
        self.link_bytes = Counter(
            f"{NAME}_link_bytes", "Bytes of messages read from the broker", registry=registry
        )

    def _add_drafts(self, registry: CollectorRegistry) -> None:
        """Metrics of drafts and their fate."""
        self.drafted = Tally(f"{NAME}_drafted_tokens", "Drafted tokens verified", registry=registry)
        self.accepted = Tally(f"{NAME}_accepted_tokens", "Drafted tokens accepted", registry=registry)
        self.fused = Tally(
            f"{NAME}_fused_tokens",
            "Tokens that the verifier drafted itself, by fate: accepted, rejected",
            ("fate",),
            registry=registry,
        )
        self.at_position = Tally(
            f"{NAME}_draft_position",
            "Verified drafted tokens, by position in their draft (from 0) and fate",
            ("position", "fate"),
            registry=registry,
        )

    def step(self, times: StepTimes) -> None:
        """Observe one step."""
        self.phase.labels("prepare").observe(times.started - times.begun)
        self.phase.labels("forward").observe(times.ended - times.started)
        self.queue.observe(times.started - times.read_at)

    def committed(
        self, verdicts: Sequence[Verdict], outcomes: Sequence[CommitOutcome], commit_s: float
    ) -> None:
        """Count one committed batch."""
        self.batches.inc()
        self.phase.labels("commit").observe(commit_s)
        for verdict, outcome in zip(verdicts, outcomes, strict=True):
            self.outcomes.add(1, outcome.outcome)
            if verdict.status != "ok":
                self.not_run.labels(verdict.status).inc()
            elif outcome.outcome == "committed":
                self._count(verdict)

    def set_pages(self, used: int, pages: int) -> None:
        """Set the KV page gauges."""
        self.pages.labels("used").set(used)
        self.pages.labels("free").set(pages - used)

    def _count(self, verdict: Verdict) -> None:
        self.rounds.add(1, "yes" if verdict.drafted else "no")
        self.emitted.add(len(verdict.tokens))
        self.drafted.add(verdict.drafted)
        self.accepted.add(verdict.accepted)
        self.fused.add(verdict.fused_accepted, "accepted")
        self.fused.add(verdict.fused_drafted - verdict.fused_accepted, "rejected")
        for position in range(verdict.accepted):
            self.at_position.add(1, position, "accepted")
        if verdict.accepted < verdict.drafted and not verdict.finish:
            self.at_position.add(1, verdict.accepted, "rejected")
