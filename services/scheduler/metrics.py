"""The scheduler's metrics. docs/protocol.md lists their names."""

from collections import Counter
from functools import partial
from typing import Final, get_args

from prometheus_client import CollectorRegistry, Gauge, Histogram
from prometheus_client import Counter as Count

from shared.planning.views import Phase

PREFIX: Final = "outrider_scheduler_"
WAITS_S: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
LENGTHS: Final = (0, 1, 2, 3, 4, 6, 8, 12, 16, 32, 64)


class Metrics:
    """The scheduler's metrics in a registry of its own (or the one given)."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self.phases: Counter[str] = Counter()  # sessions by phase, kept by the core
        sessions = Gauge(PREFIX + "sessions", "Sessions by phase", ["phase"], registry=self.registry)
        for phase in get_args(Phase):
            sessions.labels(phase).set_function(partial(self.phases.__getitem__, phase))
        self.active = self._gauge("active", "1 while this scheduler holds the lease")
        self.alpha = self._gauge("alpha", "Accepted / (accepted + rejected rounds), all sessions, fading")

        self.batches = self._count("batches", "Batches staged", "verifier")
        self.rows = self._histogram("batch_rows", "Rows in a staged batch", LENGTHS)
        self.lengths = self._histogram("draft_length", "Draft tokens in a decoding row", LENGTHS)
        self.wait = self._histogram("queue_wait_seconds", "From ready (or draft received) to staged", WAITS_S)
        self.rounds = self._count("rounds", "Verified rounds", "drafted")
        self.drafted = self._count("drafted_tokens", "Draft tokens verified")
        self.accepted = self._count("accepted_tokens", "Draft tokens accepted")
        self.positions = self._count("positions", "Draft tokens verified, by position", "position", "outcome")
        self.prefill = self._count("prefill_tokens", "Prefill and rebuild tokens staged")

        self.dropped = self._count("dropped_messages", "Messages not acted on", "kind", "reason")
        self.absurd = self._count("absurd_estimates", "Figures of devices that cannot be, not used", "where")
        self.dead_letters = self._count("dead_letters", "Messages that could not be read", "stream")
        self.timers = self._count("timers_fired", "Timers fired", "kind")
        self.moves = self._count("moves", "Sessions moved", "what")
        self.ends = self._count("ends", "Sessions the scheduler ended or saw end", "finish")
        self.full = self._count("refusals", "Batches refused because the verifier's stream was full")
        self.recoveries = self._count("recoveries", "Times the state was read back from the broker")
        self.bytes_in = self._count("received_bytes", "Bytes of messages read", "stream")

        self.plans = self._count("plans", "Plans asked for, by what became of them", "outcome")
        self.plan_time = self._histogram("plan_seconds", "Time a plan took", WAITS_S)
        self.plan_age = self._gauges("plan_age_seconds", "Age of the plan in force")
        self.cycle = self._gauges("cycle_ms", "One verification of a session to its next", "what")
        self.rate = self._gauges("tokens_per_second", "Tokens of all sessions", "what")
        self.plan_busy = self._gauges("plan_busy_share", "Of the verifier, as the plan in force expects it")
        self.plan_lanes = self._gauges("plan_batches", "Batches in the plan in force")

    def forget_verifier(self, name: str) -> None:
        """Remove the gauges of a verifier that is gone: their last values are stale."""
        for gauge in (self.plan_age, self.cycle, self.rate, self.plan_busy, self.plan_lanes):
            gauge.remove_by_labels({"verifier": name})

    def observe_round(self, drafted: int, accepted: int) -> None:
        """Count one verified round and its draft positions."""
        self.rounds.labels("yes" if drafted else "no").inc()
        self.drafted.inc(drafted)
        self.accepted.inc(accepted)
        for position in range(min(drafted, accepted + 1)):  # positions after a rejection were not verified
            outcome = "accepted" if position < accepted else "rejected"
            self.positions.labels(str(position + 1), outcome).inc()

    def _count(self, name: str, text: str, *labels: str) -> Count:
        return Count(PREFIX + name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(PREFIX + name, text, registry=self.registry)

    def _gauges(self, name: str, text: str, *labels: str) -> Gauge:
        """A gauge by verifier. Label what: "predicted" by the plan in force, or "realised" recently."""
        return Gauge(PREFIX + name, text, ("verifier", *labels), registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(PREFIX + name, text, buckets=buckets, registry=self.registry)
