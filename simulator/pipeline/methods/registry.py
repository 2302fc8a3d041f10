"""The methods by name, with the settings that suit a pipeline."""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from shared.planning.pieces import PipelineLaw
from simulator.pipeline.methods.asynchronous import Asynchronous
from simulator.pipeline.methods.lock_step import LockStep
from simulator.pipeline.methods.one_shot import OneShot
from simulator.pipeline.tuned import best_chain, best_tree
from simulator.pipeline.tuning import best_decoding

TREE: Final = 80  # rows of the FlowSpec paper's baseline


class Entry(NamedTuple):
    """A method: what it is, in a line, and its settings for (law, p1, users)."""

    about: str
    make: Callable[[PipelineLaw, float, int], Any]


def _baseline(law: PipelineLaw, p1: float, users: int) -> OneShot:
    return OneShot(TREE, 7, 10, pieces=len(law.stages) + 1, groups=min(users, len(law.stages)))


METHODS: Final[dict[str, Entry]] = {
    "a": Entry("autoregressive decoding", lambda law, p1, users: best_decoding(law, users)),
    "b": Entry("the best chain, verified once", best_chain),
    "c": Entry("80 nodes in N + 1 pieces, decided when the last is back", _baseline),
    "c_star": Entry("the best tree, verified once", best_tree),
    "d": Entry("pieces in lock-step, pruned", lambda law, p1, users: LockStep()),
    "e": Entry(
        "pieces in lock-step, pruned and expanded: FlowSpec",
        lambda law, p1, users: LockStep(redraft=6, deepen=1),
    ),
    "e_best": Entry(
        "e, but the best nodes go first, whichever piece they wait in",
        lambda law, p1, users: LockStep(redraft=6, deepen=1, best_first=True),
    ),
    "f": Entry("asynchronous trees", lambda law, p1, users: Asynchronous()),
    "h": Entry("asynchronous chains", lambda law, p1, users: Asynchronous(children=1)),
}
