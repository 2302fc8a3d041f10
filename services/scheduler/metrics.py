"""The scheduler's metrics. docs/protocol.md lists their names."""

from collections import Counter
from functools import partial
from typing import Final, get_args

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client import Counter as Count

from shared.planning.views import Phase
from shared.runtime.tally import Tally, TallyHistogram

PREFIX: Final = "outrider_scheduler_"
WAITS_S: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
LENGTHS: Final = (0, 1, 2, 3, 4, 6, 8, 12, 16, 32, 64)


class Metrics:
    """The scheduler's metrics in a registry of its own (or the one given)."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self.phases: Counter[str] = Counter()  # sessions by phase, kept by the core
        sessions = Gauge(PREFIX + "sessions", "Sessions, by phase", ["phase"], registry=self.registry)
        for phase in get_args(Phase):
            sessions.labels(phase).set_function(partial(self.phases.__getitem__, phase))
        self.active = self._gauge("active", "1 while this scheduler holds the lease, else 0")
        self.alpha = self._gauge("alpha", "Acceptance probability of all sessions, as a fading average")

        self.batches = self._tally("batches", "Staged batches, by verifier", "verifier")
        self.rows = self._histogram("batch_rows", "Rows per staged batch", LENGTHS)
        self.lengths = self._histogram("draft_length", "Drafted tokens per decoding row", LENGTHS)
        self.wait = self._histogram(
            "queue_wait_seconds",
            "Time from a ready session or a received draft to its staged row, in seconds",
            WAITS_S,
        )
        self.rounds = self._tally("rounds", "Verified rounds, by whether they had a draft", "drafted")
        self.drafted = self._tally("drafted_tokens", "Verified drafted tokens")
        self.accepted = self._tally("accepted_tokens", "Accepted drafted tokens")
        self.spared = self._tally(
            "spared_tokens", "Tokens that devices were to draft and did not, unsure or without room"
        )
        self.positions = self._tally(
            "positions", "Verified drafted tokens, by position from 1 and outcome", "position", "outcome"
        )
        self.prefill = self._count("prefill_tokens", "Staged prefill and rebuild tokens")

        self.dropped = self._count(
            "dropped_messages", "Ignored messages, by kind and reason", "kind", "reason"
        )
        self.absurd = self._count(
            "absurd_estimates", "Implausible measurements of devices, which are not used", "where"
        )
        self.dead_letters = self._count("dead_letters", "Unreadable messages, by stream", "stream")
        self.timers = self._count("timers_fired", "Fired timers, by kind", "kind")
        self.moves = self._count("moves", "Sessions moved to another device or verifier", "what")
        self.ends = self._count("ends", "Ended sessions, by finish", "finish")
        self.full = self._count("refusals", "Batches refused because the verifier's stream was full")
        self.recoveries = self._count("recoveries", "Recoveries of the state from the broker")
        self.bytes_in = self._tally("received_bytes", "Bytes of messages read, by stream", "stream")

        self._add_cells()
        self._add_plans()

    def forget_device(self, name: str) -> None:
        """Remove the share of a device that is gone."""
        self.shares.remove_by_labels({"device": name})

    def forget_verifier(self, name: str) -> None:
        """Remove the gauges of a verifier that is gone: their last values are stale."""
        for gauge in (self.plan_age, self.cycle, self.rate, self.plan_busy, self.plan_lanes):
            gauge.remove_by_labels({"verifier": name})

    def observe_round(self, drafted: int, accepted: int) -> None:
        """Count one verified round and its draft positions."""
        self.rounds.add(1, "yes" if drafted else "no")
        self.drafted.add(drafted)
        self.accepted.add(accepted)
        for position in range(min(drafted, accepted + 1)):  # positions after a rejection were not verified
            outcome = "accepted" if position < accepted else "rejected"
            self.positions.add(1, position + 1, outcome)

    def _add_cells(self) -> None:
        """Metrics of radio cells."""
        self.shares = Gauge(
            PREFIX + "device_share_bits_per_second",
            "What a device of a radio cell may carry, by device",
            ["device"],
            registry=self.registry,
        )
        self.exceeded = self._count(
            "share_exceeded",
            "Times that a device sent more than 1.2 x its share for 5 s, by device",
            "device",
        )

    def _add_plans(self) -> None:
        """Metrics of planning and of the plan in force."""
        self.plans = self._count("plans", "Requested plans, by outcome", "outcome")
        self.plan_time = self._histogram("plan_seconds", "Duration of a planner's run, in seconds", WAITS_S)
        self.plan_age = self._gauges("plan_age_seconds", "Age of the plan in force, in seconds")
        self.cycle = self._gauges(
            "cycle_ms", "Time between two verifications of a session, in ms, predicted and realised", "what"
        )
        self.rate = self._gauges(
            "tokens_per_second", "Tokens per second of all sessions, predicted and realised", "what"
        )
        self.plan_busy = self._gauges(
            "plan_busy_share", "The verifier's busy share in the plan in force, 0 to 1"
        )
        self.plan_lanes = self._gauges("plan_batches", "Batches or lanes in the plan in force")

    def _count(self, name: str, text: str, *labels: str) -> Count:
        return Count(PREFIX + name, text, labels, registry=self.registry)

    def _tally(self, name: str, text: str, *labels: str) -> Tally:
        return Tally(PREFIX + name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(PREFIX + name, text, registry=self.registry)

    def _gauges(self, name: str, text: str, *labels: str) -> Gauge:
        """A gauge by verifier. Label what: "predicted" by the plan in force, or "realised" recently."""
        return Gauge(PREFIX + name, text, ("verifier", *labels), registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> TallyHistogram:
        return TallyHistogram(PREFIX + name, text, buckets, registry=self.registry)
