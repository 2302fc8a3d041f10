"""The gateway's metrics. docs/protocol.md lists their names."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from services.gateway.sessions import GatewaySessions
from services.gateway.usage import RequestTimer, Usage
from shared.runtime.listener import Listener

_TTFT_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_TPOT_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Metrics:
    """Metrics of requests, tokens and sessions."""

    def __init__(self, registry: CollectorRegistry, sessions: GatewaySessions) -> None:
        self.requests = Counter(
            "outrider_gateway_requests",
            "Requests, by endpoint and status",
            ["endpoint", "status"],
            registry=registry,
        )
        self.ttft = Histogram(
            "outrider_gateway_ttft_seconds",
            "Time from a request's arrival to its first token, in seconds",
            registry=registry,
            buckets=_TTFT_S,
        )
        self.tpot = Histogram(
            "outrider_gateway_tpot_seconds",
            "Mean time per token after the first, in seconds",
            registry=registry,
            buckets=_TPOT_S,
        )
        self.tokens = Counter(
            "outrider_gateway_tokens",
            "Tokens of ended requests, by kind: prompt, completion, drafted, accepted, fused_drafted, "
            "fused_accepted",
            ["kind"],
            registry=registry,
        )
        self.rounds = Counter(
            "outrider_gateway_rounds", "Verified drafts of ended requests", registry=registry
        )
        registry.register(_SessionCounts(sessions))
        self._registry = registry

    def watch(self, listener: Listener) -> None:
        """Add metrics of a listener's connections."""
        self._registry.register(_ConnectionCounts(listener))

    def count(self, usage: Usage, timer: RequestTimer) -> None:
        """Count a request that has ended, with or without an error."""
        self.tokens.labels("prompt").inc(usage.prompt_tokens)
        self.tokens.labels("completion").inc(usage.completion_tokens)
        self.tokens.labels("drafted").inc(usage.drafted_tokens)
        self.tokens.labels("accepted").inc(usage.accepted_tokens)
        self.tokens.labels("fused_drafted").inc(usage.fused_drafted_tokens)
        self.tokens.labels("fused_accepted").inc(usage.fused_accepted_tokens)
        self.rounds.inc(usage.rounds)
        if timer.first_at is not None:
            self.ttft.observe(timer.first_at - timer.began_at)
            if timer.count > 1:
                self.tpot.observe((timer.last_at - timer.first_at) / (timer.count - 1))


class _SessionCounts(Collector):
    """Exports the counts of GatewaySessions on each scrape."""

    def __init__(self, sessions: GatewaySessions) -> None:
        self._sessions = sessions

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("outrider_gateway_sessions", "Sessions under way", value=len(self._sessions))
        events = CounterMetricFamily(
            "outrider_gateway_session_events",
            "Events of sessions, by kind: gaps read from the log, lost replies, refused messages, cancels and others; "
            "reply_bytes counts bytes",
            labels=["event"],
        )
        for name, value in sorted(self._sessions.counts.items()):
            events.add_metric([name], value)
        yield events


class _ConnectionCounts(Collector):
    """Exports the listener's connection counts on each scrape."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "outrider_gateway_connections", "Connected clients", value=len(self._listener)
        )
        events = CounterMetricFamily(
            "outrider_gateway_connection_events",
            "Connections that a limit ended, by limit: refused, evicted, header_timeout, write_timeout",
            labels=["event"],
        )
        for name, value in sorted(self._listener.counts.items()):
            events.add_metric([name], value)
        yield events
