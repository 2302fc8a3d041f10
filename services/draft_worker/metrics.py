"""The draft worker's metrics. docs/protocol.md lists their names."""

from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge

from shared.compute.drafter import DraftResult
from shared.runtime.tally import Tally, TallyHistogram


class SessionCounts(Protocol):
    """Counts of one incarnation's sessions."""

    @property
    def tokens(self) -> int:
        """Prompt and committed tokens of all sessions."""
        ...

    def __len__(self) -> int: ...


class Metrics:
    """Metrics of one process: of its draft worker, or of all devices that it emulates."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._held: dict[str, SessionCounts] = {}  # by device
        self.drafts = Tally("outrider_device_drafts", "Finished drafts", registry=registry)
        self.drafted = Tally("outrider_device_drafted_tokens", "Tokens drafted", registry=registry)
        self.draft_seconds = Tally(
            "outrider_device_draft_seconds", "Compute time of finished drafts, in seconds", registry=registry
        )
        self.busy_seconds = Tally(
            "outrider_device_busy_seconds", "Time with a decode running, in seconds", registry=registry
        )
        self.wait = TallyHistogram(
            "outrider_device_draft_wait_seconds",
            "Time from a verdict's arrival to the start of drafting, in seconds",
            buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2),
            registry=registry,
        )
        sessions = Gauge("outrider_device_sessions", "Sessions held", registry=registry)
        sessions.set_function(lambda: sum(len(held) for held in self._held.values()))
        kv_tokens = Gauge(
            "outrider_device_kv_tokens", "Prompt and committed tokens of the sessions held", registry=registry
        )
        kv_tokens.set_function(lambda: sum(held.tokens for held in self._held.values()))
        self.messages = Tally(
            "outrider_device_messages", "Messages read, by kind", ("kind",), registry=registry
        )
        self.refused = Counter(
            "outrider_device_refused", "Messages refused, by reason", ["reason"], registry=registry
        )
        self.full = Counter(
            "outrider_device_broker_full", "Messages that a full stream refused", registry=registry
        )
        self.link_bytes = Tally(
            "outrider_device_link_bytes", "Bytes of messages, by direction", ("direction",), registry=registry
        )
        self.share = Gauge(
            "outrider_device_share_bits_per_second",
            "What the device may carry through its radio cell, by device",
            ["device"],
            registry=registry,
        )

    def observe_draft(self, result: DraftResult, waited_s: float) -> None:
        """Observe a finished request; only a draft counts. waited_s: before its computing started."""
        if result.tokens:
            self.drafts.add(1)
            self.drafted.add(len(result.tokens))
            self.draft_seconds.add(result.draft_us / 1e6)
            self.wait.observe(waited_s)

    def track(self, device: str, held: SessionCounts) -> None:
        """Export these sessions as the device's from now on."""
        self._held[device] = held
