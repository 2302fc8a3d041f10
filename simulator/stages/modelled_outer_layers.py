"""What rank 0 of a modelled pipeline computes: tokens become rows, and the states that return become choices."""

from collections.abc import Sequence

import numpy as np

from services.verifier.packing import Ids, Packing
from shared.compute.modelled import choose
from shared.compute.modelled_target import modelled_logprobs
from shared.compute.target import Choices, TargetRow
from shared.planning.pieces import StageLaw
from simulator.stages.modelled_block import ROW


class ModelledOuterLayers:
    """See OuterLayers. head: its law."""

    def __init__(self, vocab: int, head: StageLaw) -> None:
        self.rows = vocab
        self._head = head

    def embed(self, ids: Ids) -> bytes:
        """The tokens, of which no state is known."""
        rows = np.zeros(len(ids), dtype=ROW)
        rows["token"] = ids
        return rows.tobytes()

    def choose(self, packing: Packing, hidden: bytes, rows: Sequence[TargetRow]) -> list[Choices]:
        """The modelled target's own tokens."""
        states = iter(np.frombuffer(hidden, dtype=ROW)["state"][packing.chosen].tolist())
        answers = [Choices(())] * len(rows)
        for placed in packing.choosers:
            row = placed.row
            tokens = tuple(choose(next(states), row.sampling) for _ in range(row.choices))
            logprobs = tuple(modelled_logprobs(token, row) for token in tokens) if row.logprobs >= 0 else ()
            answers[placed.index] = Choices(tokens, logprobs)
        return answers

    def cost_s(self, rows: Sequence[TargetRow]) -> float:
        """Modelled seconds of `choose`, by all rows that return."""
        return self._head.pass_ms(sum(len(row.tokens) for row in rows)) / 1e3

    def set_threads(self, threads: int) -> None:
        """The modelled cost does not depend on them."""
