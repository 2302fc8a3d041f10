"""The open trees as metrics."""

from prometheus_client import CollectorRegistry

from services.verifier.trees.tree_metrics import TreeMetrics


class Engine:
    """Stands for the engine."""

    def sizes(self) -> list[int]:
        return [5, 0, 3]


def test_trees_and_their_nodes_are_counted() -> None:
    registry = CollectorRegistry()
    registry.register(TreeMetrics(Engine()))  # type: ignore[arg-type]  # its sizes are all that is asked for
    assert registry.get_sample_value("outrider_verifier_trees") == 3
    assert registry.get_sample_value("outrider_verifier_tree_nodes") == 8
