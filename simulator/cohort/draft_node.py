"""One node that drafts for all, batch by batch, as the formula of objective `latency` assumes."""

from collections.abc import Callable, Mapping, Sequence
from math import ceil, floor

from shared.compute.drafter import DraftRequest
from shared.compute.modelled_drafter import ModelledDrafter, Work

ROUNDING = 1e-9


class DraftNode(ModelledDrafter):
    """Drafts for one batch at a time, in the order in which they came, once all members of it are there.

    Reading costs nothing. One token for all rows takes law(rows, longest text). Of r rounds floor(r·E) tokens are
    right or the target's own, so that every session advances by E tokens a round on average, and not by chance.
    """

    def __init__(
        self,
        batches: Sequence[Sequence[int]],
        law: Callable[[int, int], float],
        emitted: float,
        vocab: int,
    ) -> None:
        """batches: of the sessions' seeds. law: in ms. emitted: E."""
        seeds = [seed for batch in batches for seed in batch]
        super().__init__(1.0, draft_ms=1.0, vocab=vocab, capacity=len(seeds) + 1, kv_tokens=1 << 24)
        self._batch_of: Mapping[int, int] = {seed: n for n, batch in enumerate(batches) for seed in batch}
        self._sizes, self._law, self._emitted = [len(batch) for batch in batches], law, emitted
        self._base: dict[str, int] = {}  # of the request under way

    def start(self, request: DraftRequest) -> None:
        """See ModelledDrafter.start; the text is read at once."""
        super().start(request)
        chain = self._caches[request.session]
        chain.feed(request.ids[len(chain.tokens) : -1])
        self._base[request.session] = len(request.ids)

    def costs_s(self) -> Sequence[float]:
        """Of the next step."""
        return [self._cost_s()] if self._active() else ()

    def _active(self) -> Sequence[Work]:
        """The first batch that is complete; a seed of no batch, as in a calibration, is one of its own."""
        found: dict[int, list[Work]] = {}
        for work in self._works.values():
            seed = work.request.sampling.seed
            if seed not in self._batch_of:
                return (work,)
            found.setdefault(self._batch_of[seed], []).append(work)
        complete = [works for batch, works in found.items() if len(works) == self._sizes[batch]]
        return complete[0] if complete else ()

    def _cost_s(self) -> float:
        works = self._active()
        return self._law(len(works), max(len(work.request.ids) for work in works)) / 1e3

    def _is_right(self, request: DraftRequest, position: int) -> bool:
        base = self._base[request.session]
        done = base - self._first[request.session]
        rounds = ceil(done / self._emitted - ROUNDING)
        right = floor((rounds + 1) * self._emitted + ROUNDING) - done - 1
        return position - base < right
