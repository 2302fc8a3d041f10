"""Counters of the paths that every message takes. Counting one takes a tenth of the time of Prometheus's own."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString


class Tally(Collector):
    """A counter for one thread, whose series are made when they are read. labels: names of its labels."""

    def __init__(
        self, name: str, text: str, labels: tuple[str, ...] = (), *, registry: CollectorRegistry
    ) -> None:
        self._name, self._text, self._labelnames = name, text, labels
        self._counts: Counter[tuple[str | int, ...]] = Counter() if labels else Counter({(): 0})
        registry.register(self)

    def add(self, amount: float, *labels: str | int) -> None:
        """Add to the series with these values of the labels, in their order."""
        self._counts[labels] += amount  # type: ignore[assignment]  # Counter is typed for whole numbers

    def collect(self) -> Iterator[Metric]:
        """One family with all series."""
        family = CounterMetricFamily(self._name, self._text, labels=self._labelnames)
        for labels, count in self._counts.items():
            family.add_metric([str(label) for label in labels], count)
        yield family


class TallyHistogram(Collector):
    """A histogram for one thread, likewise. buckets: their upper ends, ascending."""

    def __init__(
        self, name: str, text: str, buckets: tuple[float, ...], *, registry: CollectorRegistry
    ) -> None:
        self._name, self._text, self._ends = name, text, buckets
        self._counts = [0] * (len(buckets) + 1)
        self._sum = 0.0
        registry.register(self)

    def observe(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._ends, value)] += 1
        self._sum += value

    def collect(self) -> Iterator[Metric]:
        """One family: the values up to each end, and their sum."""
        ends = [*map(floatToGoString, self._ends), "+Inf"]
        buckets = list(zip(ends, accumulate(map(float, self._counts)), strict=True))
        yield HistogramMetricFamily(self._name, self._text, buckets=buckets, sum_value=self._sum)
