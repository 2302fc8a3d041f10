"""Durations of a tree's levels, by their number of nodes."""

import time
from collections.abc import Sequence

from loadgen.measuring.timing import Clock, time_s
from shared.compute.tree_drafter import ROOT, GrowRequest, Growth, TreeDrafter
from shared.speculative.params import SamplingParams


class LevelTimer:
    """One session with a context of so many tokens, whose root has `width` children."""

    def __init__(
        self,
        drafter: TreeDrafter,
        context: int,
        width: int,
        temperature: float = 0.0,
        clock: Clock = time.perf_counter,
    ) -> None:
        self._drafter, self._width, self._clock = drafter, width, clock
        self._sampling = SamplingParams(seed=1, vocab=drafter.vocab, temperature=temperature)
        self._ids = [at * 31 % drafter.vocab for at in range(context)]
        while self._grow(()).missing:
            pass

    def level_s(self, nodes: int) -> float:
        """Seconds to expand so many children of the root. The tree is made anew before, which is not timed."""
        self._ids[-1] = (self._ids[-1] + 1) % self._drafter.vocab
        (root,) = self._grow((ROOT,)).expansions
        level = range(root.first, root.first + nodes)
        return time_s(lambda: self._grow(level), self._clock)

    def _grow(self, nodes: Sequence[int]) -> Growth:
        request = GrowRequest("levels", self._ids, self._sampling, nodes, self._width)
        (growth,) = self._drafter.grow([request])
        return growth
