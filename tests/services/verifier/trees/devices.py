"""A device that grows trees for an engine, with a link that may lose, repeat and delay its messages."""

import random
from collections.abc import Callable, Sequence

from services.draft_worker.grown_trees import Grow, GrownTrees, Nodes
from shared.compute.tree_drafter import TreeDrafter
from shared.protocol.messages import Grown, Verdict
from shared.speculative.params import SamplingParams

Graft = Callable[[Grown], str]


class Device:
    """lost, repeated, late: how often a message is. answers: the engine's, to each message."""

    def __init__(
        self, drafter: TreeDrafter, lost: float = 0.0, repeated: float = 0.0, late: float = 0.0, seed: int = 0
    ) -> None:
        self.answers: list[str] = []
        self.graft: Graft = lambda grown: "closed"
        self._drafter, self._trees = drafter, GrownTrees()
        self._lost, self._repeated, self._late = lost, repeated, late
        self._rng = random.Random(seed)
        self._waiting: list[Grown] = []
        self._sent: list[Grown] = []

    def hear(self, verdict: Verdict, ids: Sequence[int], sampling: SamplingParams) -> None:
        """A verdict, and all committed tokens."""
        if verdict.tree:
            self._send(self._trees.follow(Grow(verdict.session, tuple(ids), sampling, verdict.tree)))
        else:
            self._trees.stop(verdict.session)

    def turn(self) -> None:
        """Grow one level."""
        if requests := self._trees.requests():
            self._send(self._trees.take(self._drafter.grow(requests)))
        for grown in self._waiting:
            self._deliver(grown)
        self._waiting.clear()

    def _send(self, messages: Sequence[Nodes]) -> None:
        for one in messages:
            grown = Grown(
                one.session, 1, one.hangs_from, one.first_node, one.tokens, one.parents, one.survival
            )
            if self._rng.random() < self._lost:
                continue
            if self._rng.random() < self._late:
                self._waiting.append(grown)
            else:
                self._deliver(grown)
            if self._rng.random() < self._repeated and self._sent:
                self._deliver(self._rng.choice(self._sent))

    def _deliver(self, grown: Grown) -> None:
        self._sent.append(grown)
        self.answers.append(self.graft(grown))
