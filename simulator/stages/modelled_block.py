"""A stage's modelled layers: KV that holds, slot by slot, the state of the text up to there.

A hidden row is a token and the state after it, as far as the layers before have computed it (shared/compute/modelled).
Each stage computes that state anew from its own KV, and what it finds to be otherwise than the stages before it becomes
a wrong state. So a slot that is copied wrongly, given away too early or read before it is written, in any stage, makes
another text. A dead node's slot may be copied, though it was never written: nothing that lives reads it.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np

from services.verifier.stages.living import living_rows
from services.verifier.stages.messages import Piece, PieceRow
from shared.compute.modelled import START, extend
from shared.speculative.noise import mix

ROW = np.dtype([("token", "<u8"), ("state", "<u8")])
UNWRITTEN: Final = 0x5EED_BAD  # the state in a slot that was not written


class ModelledBlock:
    """Computes pieces in the order in which they come. first: whether these are the first layers."""

    def __init__(self, layers: int, page_tokens: int, first: bool) -> None:
        self.layers = layers
        self._page_tokens = page_tokens
        self._first = first
        self._states: dict[int, int] = {}  # by slot

    def run(self, piece: Piece) -> bytes:
        """The piece's hidden rows after our layers."""
        moved = [self._states.get(source, UNWRITTEN) for source in piece.sources]
        self._states.update(zip(piece.targets, moved, strict=True))
        hidden = np.frombuffer(piece.hidden, dtype=ROW)
        places = [place for row in living_rows(piece) for place in self._places(row)]
        states: list[int] = []
        for (before, slot), token, given in zip(
            places, hidden["token"].tolist(), hidden["state"].tolist(), strict=True
        ):
            own = extend(START if before is None else self._states[before], token)
            self._states[slot] = own
            states.append(own if self._first or own == given else mix(own ^ mix(given)))
        after = hidden.copy()
        after["state"] = states
        return after.tobytes()

    def _places(self, row: PieceRow) -> Iterator[tuple[int | None, int]]:
        """For each new token of a row the slot of the token before it in the text, None for none; and its own."""
        root = row.start + row.committed - 1  # place of the last committed token
        first = row.start + len(row.open)
        for index in range(row.count):
            node = index - row.committed
            before = first + index - 1
            if node >= 0 and row.parents:
                before = root + 1 + row.parents[node]
            yield (None if before < 0 else self._slot(row, before)), self._slot(row, first + index)

    def _slot(self, row: PieceRow, place: int) -> int:
        page, offset = divmod(place, self._page_tokens)
        return row.table[page] * self._page_tokens + offset
