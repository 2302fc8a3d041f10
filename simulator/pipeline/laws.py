"""Cost laws of pipelines by name: of what kind the machines are, for any number of stages.

A target's layers are shared out evenly, so a stage has an Nth of the time that depends on the weights, and a fixed part
of its own.
"""

from collections.abc import Callable
from typing import Final

from shared.planning.pieces import PipelineLaw, StageLaw

ROW_BYTES: Final = 10_000  # of a row's activations: 5,000 numbers of 16 bits
WIRE_1GBIT_MS: Final = 8e-6 * ROW_BYTES / 1.0


def _edge(stages: int, hop_ms: float) -> PipelineLaw:
    """Boards: a pass of 240 ms over all layers, 3 ms a row, 10 ms a drafter pass, Ethernet of 1 Gbit/s."""
    stage = StageLaw(240.0 / stages, 3.0 / stages)
    return PipelineLaw((stage,) * stages, hop_ms, WIRE_1GBIT_MS, 10.0, StageLaw(5.0, 0.1))


def _cpu(stages: int, hop_ms: float) -> PipelineLaw:
    """Servers without accelerators: 8 ms over all layers, 2 ms more on each, .35 ms a row, 2 ms a drafter pass."""
    stage = StageLaw(8.0 / stages + 2.0, 0.35 / stages)
    return PipelineLaw((stage,) * stages, hop_ms, 0.0, 2.0, StageLaw(1.5, 0.14))


def _gpu(stages: int, hop_ms: float) -> PipelineLaw:
    """Accelerators: 20 ms over all layers, 1 ms more on each, .04 ms a row, 2 ms a drafter pass."""
    stage = StageLaw(20.0 / stages + 1.0, 0.04 / stages)
    return PipelineLaw((stage,) * stages, hop_ms, 0.0, 2.0, StageLaw(0.5, 0.01))


LAWS: Final[dict[str, Callable[[int, float], PipelineLaw]]] = {"edge": _edge, "cpu": _cpu, "gpu": _gpu}
