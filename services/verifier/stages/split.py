"""How many layers each stage gets. Pure."""

from collections.abc import Sequence
from typing import Final

EQUAL: Final = 1.3  # speeds within this ratio are one: a short measurement on a busy machine is not better


class SplitError(ValueError):
    """Layers that cannot be split so; the text says why."""


def split_by_speed(layers: int, layer_ms: Sequence[float]) -> tuple[int, ...]:
    """Layers of each stage, so that the slowest stage is as fast as possible. layer_ms: of one layer, by stage.

    Raises SplitError when there are more stages than layers.
    """
    stages = len(layer_ms)
    if stages > layers:
        raise SplitError(f"{stages} stages for a model of {layers} layers; at most one stage per layer")
    fastest = min(layer_ms)
    cost = [1.0 if ms <= EQUAL * fastest else ms / fastest for ms in layer_ms]
    counts = [1] * stages
    for _ in range(layers - stages):
        best = min(range(stages), key=lambda stage: ((counts[stage] + 1) * cost[stage], stage))
        counts[best] += 1
    return tuple(counts)


def parse_split(text: str, stages: int, layers: int) -> tuple[int, ...]:
    """A split as a setting states it, "9,7,7,7". Raises SplitError."""
    try:
        counts = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise SplitError(f"{text!r} is not a list of numbers such as 8,7,8,7") from None
    if len(counts) != stages or min(counts) < 1 or sum(counts) != layers:
        raise SplitError(
            f"{text} is {len(counts)} stages with {sum(counts)} layers; "
            f"it has to be {stages} with {layers}, each at least one"
        )
    return counts


def first_layers(counts: Sequence[int]) -> tuple[int, ...]:
    """The number of each stage's first layer. (9, 7, 7) -> (0, 9, 16)"""
    return tuple(sum(counts[:stage]) for stage in range(len(counts)))
