"""A stage's layers with their part of the KV pool."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from services.verifier.families import shape_of
from services.verifier.malloc_trim import MallocTrimmer
from services.verifier.packed import KvStore, PackedPass
from services.verifier.packing import Packing, Placed, pack, run_of
from services.verifier.stages.living import living_rows, tokens_of
from services.verifier.stages.messages import Piece, PieceRow
from shared.compute.target import TargetRow
from shared.speculative.params import SamplingParams

NO_SAMPLING = SamplingParams(seed=0, vocab=1)


class PieceError(ValueError):
    """A piece that does not fit the stage; the text says why."""


class Block:
    """Computes pieces, in the order in which they come."""

    def __init__(
        self, body: Any, *, kv_tokens: int, page_tokens: int, call_cost: int, dtype: torch.dtype
    ) -> None:
        """body: of `load_block`. kv_tokens: slots of the pool, whole pages."""
        self._body = body
        self._shape = shape_of(body.config)
        self._place: torch.device = body.device
        self._dtype = dtype
        self._store = KvStore(self._shape, kv_tokens, dtype, self._place)
        self._page_tokens = page_tokens
        self._call_cost = call_cost
        self._hidden: int = body.config.hidden_size
        self._trimmer = MallocTrimmer() if self._place.type == "cpu" else None
        self.layers = self._shape.layers

    @torch.inference_mode()
    def run(self, piece: Piece) -> bytes:
        """The piece's hidden rows after our layers, [tokens, hidden] in the model's dtype. Raises PieceError."""
        self._move(piece.sources, piece.targets)
        rows = living_rows(piece)
        placed = [self._placed(index, row) for index, row in enumerate(rows)]
        hidden = from_bytes(piece.hidden, self._hidden, self._dtype).to(self._place)
        if len(hidden) != tokens_of(rows):
            raise PieceError(f"piece {piece.number}: {len(hidden)} hidden rows for other tokens")
        if not placed:
            return b""
        packing = pack(placed, self._page_tokens, self._store.slots, self._call_cost)
        order = _token_order(packing, rows)  # rank 0 packs alike, but perhaps more of them
        hidden = hidden if order is None else hidden[order]
        output: Tensor = self._body(
            inputs_embeds=hidden[None],
            position_ids=torch.from_numpy(packing.positions).to(self._place)[None],
            use_cache=False,
            packed=PackedPass(packing, self._store, self._shape, self._page_tokens),
        ).last_hidden_state[0]
        if self._trimmer:
            self._trimmer.after_pass()
        return to_bytes(output if order is None else output[order.argsort()])

    def _move(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        if len(sources) != len(targets) or max((*sources, *targets), default=0) >= self._store.slots:
            raise PieceError(f"moves beyond the pool of {self._store.slots} slots")
        if sources:
            self._store.move(sources, targets)

    def _placed(self, index: int, row: PieceRow) -> Placed:
        nodes = (*row.open, *row.parents)
        wrong = (
            row.count < 1
            or not (0 if row.parents else 1) <= row.committed <= row.count
            or (row.open and row.committed)
            or row.start + len(row.open) + row.count > len(row.table) * self._page_tokens
            or (max(row.table) + 1) * self._page_tokens > self._store.slots
            or (row.parents and len(row.parents) != row.count - row.committed)
            or any(parent >= node for node, parent in enumerate(nodes))
        )
        if wrong:
            raise PieceError(f"row {index} does not fit the pool of {self._store.slots} slots")
        tokens = range(row.count)  # a stage sees no ids; packing needs their number
        fed = TargetRow(
            "", row.start, tokens, row.committed, False, NO_SAMPLING, parents=row.parents, open=row.open
        )
        return Placed(index, fed, row.table, run_of(row.table, self._page_tokens))


def _token_order(packing: Packing, rows: Sequence[PieceRow]) -> Tensor | None:
    """Which token stands where in a packing; None where they stand as they came. [tokens]"""
    order = [one.index for group in packing.groups for one in group.rows]
    if order == sorted(order):
        return None
    begins = [0, *accumulate(row.count for row in rows)]
    return torch.cat([torch.arange(begins[at], begins[at + 1]) for at in order])


def to_bytes(hidden: Tensor) -> bytes:
    """[tokens, hidden] -> its values, row by row."""
    data: bytes = hidden.contiguous().cpu().view(torch.uint8).numpy().tobytes()
    return data


def from_bytes(data: bytes, hidden: int, dtype: torch.dtype) -> Tensor:
    """The reverse of `to_bytes`. Raises PieceError for another length."""
    if len(data) % (hidden * dtype.itemsize):
        raise PieceError(f"{len(data)} bytes are no rows of {hidden} {dtype} values")
    if not data:
        return torch.empty(0, hidden, dtype=dtype)
    return torch.frombuffer(bytearray(data), dtype=torch.uint8).view(dtype).view(-1, hidden)
