"""The open draft trees as metrics, computed on each scrape."""

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from services.verifier.metrics import NAME
from services.verifier.trees.tree_engine import TreeEngine


class TreeMetrics(Collector):
    """How many sessions an engine keeps, and how large their trees are."""

    def __init__(self, engine: TreeEngine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        """Two gauges; their quotient is a tree's mean size."""
        sizes = self._engine.sizes()
        yield GaugeMetricFamily(
            f"{NAME}_trees", "Sessions that are verified piece by piece, each with a tree", value=len(sizes)
        )
        yield GaugeMetricFamily(
            f"{NAME}_tree_nodes", "Drafted nodes of these trees that are alive", value=sum(sizes)
        )
