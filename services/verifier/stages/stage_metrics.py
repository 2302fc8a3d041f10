"""The stages of a ring as metrics, computed on each scrape from their last beat."""

from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from services.verifier.metrics import NAME
from services.verifier.stages.messages import StageState
from services.verifier.stages.ring import Ring

_COUNTERS: Final[tuple[tuple[str, str, Callable[[StageState], float]], ...]] = (
    (
        "stage_busy_seconds",
        "Computing, by stage, in seconds; a pass counts at its end",
        lambda s: s.busy_us / 1e6,
    ),
    ("stage_passes", "Pieces computed, by stage", lambda s: s.passes),
    ("stage_tokens", "Tokens of these pieces, by stage", lambda s: s.tokens),
)
_GAUGES: Final[tuple[tuple[str, str, Callable[[StageState], float]], ...]] = (
    ("stage_layers", "Layers, by stage; 0 until they are loaded", lambda s: s.layers),
    ("stage_waiting_pieces", "Pieces that wait for their turn, by stage", lambda s: s.waiting),
)


class StageMetrics(Collector):
    """Collects what the stages said in the last beat, and what rank 0 measures itself. stage "0" is rank 0."""

    def __init__(self, ring: Ring) -> None:
        self._ring = ring

    def collect(self) -> Iterator[Metric]:
        """One metric family per figure, labelled by stage."""
        states = self._ring.states
        for name, text, figure in _COUNTERS:
            counter = CounterMetricFamily(f"{NAME}_{name}", text, labels=["stage"])
            for state in states:
                counter.add_metric([str(state.rank)], figure(state))
            yield counter
        for name, text, figure in _GAUGES:
            gauge = GaugeMetricFamily(f"{NAME}_{name}", text, labels=["stage"])
            for state in states:
                gauge.add_metric([str(state.rank)], figure(state))
            yield gauge
        sent = CounterMetricFamily(
            f"{NAME}_stage_sent_bytes", "Bytes sent to the next rank, by stage; 0 = rank 0", labels=["stage"]
        )
        sent.add_metric(["0"], self._ring.sent_bytes)
        for state in states:
            sent.add_metric([str(state.rank)], state.sent_bytes)
        yield sent
        yield CounterMetricFamily(
            f"{NAME}_left_out_tokens",
            "Tokens of returned pieces that not all stages computed, since they were dead",
            value=self._ring.left_out,
        )
        yield GaugeMetricFamily(
            f"{NAME}_stage_round_trip_seconds",
            "A beat's time around the ring, in seconds",
            value=self._ring.round_trip_us / 1e6,
        )
