"""A target whose layers run in the stages of a ring; pool, choices and what else is done at rank 0 are here.

`launch` makes a pass into pieces for the ring, `finish` turns what came back into choices. Between the two other passes
may be launched: links keep the order, so what a later piece reads is written before. Pages are published for sharing
only by `finish`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from services.verifier.packing import Ids, Packing, Placed, pack
from services.verifier.paged_target import PagedTarget
from services.verifier.stages.messages import Piece, PieceRow
from shared.compute.target import Choices, TargetRow

PREFILL_PIECE: Final = (
    64  # committed tokens of one piece: a long prompt fills the stages one behind the other
)


@dataclass(frozen=True, slots=True)
class Launched:
    """One piece under way. admissions: of its sessions, as they were: a session that lost its pages is not touched.

    counted: its committed tokens count as cached already.
    """

    number: int
    rows: tuple[TargetRow, ...]
    packing: Packing
    admissions: tuple[int, ...]
    counted: bool


class OuterLayers(Protocol):
    """What rank 0 computes itself: before the layers and after them. rows: of the embedding."""

    rows: int

    def embed(self, ids: Ids) -> bytes:
        """Hidden rows of these tokens, as the first stage reads them."""
        ...

    def choose(self, packing: Packing, hidden: bytes, rows: Sequence[TargetRow]) -> list[Choices]:
        """What each row chooses. hidden: of the packed sequence, as the last stage gives it. Raises PieceError."""
        ...

    def cost_s(self, rows: Sequence[TargetRow]) -> float:
        """Modelled seconds of `choose`; 0.0 of a real model."""
        ...

    def set_threads(self, threads: int) -> None:
        """Use this many threads from the next call on."""
        ...


class PipelinedTarget(PagedTarget):
    """Rank 0's part of a target. All methods but `cost_s` are called on the compute thread."""

    def __init__(
        self,
        outer: OuterLayers,
        *,
        positions: int,
        vocabulary: str,
        vocab: int,
        vocabulary_blocks: str = "",
        kv_tokens: int,
        page_tokens: int = 16,
        prefix_sharing: bool = True,
        max_context: int | None = None,
        device: str,
    ) -> None:
        """positions: that the model has. device: of rank 0's part, cpu or cuda."""
        super().__init__(
            rows=outer.rows,
            positions=positions,
            vocabulary=vocabulary,
            vocab=vocab,
            vocabulary_blocks=vocabulary_blocks,
            kv_tokens=kv_tokens,
            page_tokens=page_tokens,
            prefix_sharing=prefix_sharing,
            max_context=max_context,
            device=device,
        )
        self._outer = outer
        self._moves: dict[int, int] = {}  # target slot: source, of the moves that the next piece carries
        self._sent = 0

    @property
    def call_cost(self) -> int:
        """Of our packing; the stages pack alike."""
        return self._call_cost

    def launch(self, rows: Sequence[TargetRow], counted: bool = False) -> list[tuple[Launched, Piece]]:
        """The pieces of one pass, in the order in which they are to be sent. Rows are of different sessions.

        counted: the caller counts their committed tokens by `sent`, before they are back. Raises ValueError when a row
        does not fit the cache.
        """
        self._packed(rows)  # all rows are checked before anything is under way
        return [self._piece(part, counted) for part in split_rows(rows, PREFILL_PIECE)]

    def finish(self, launched: Launched, hidden: bytes) -> dict[str, Choices]:
        """What the rows of a piece choose, by session. hidden: of the piece after the last layer. Raises PieceError."""
        for row, admission in zip(launched.rows, launched.admissions, strict=True):
            if not launched.counted and self._pool.admission(row.session) == admission:
                self._pool.fed(row.session, row.start + row.committed)
        choices = self._outer.choose(launched.packing, hidden, launched.rows)
        return {row.session: chosen for row, chosen in zip(launched.rows, choices, strict=True)}

    def keep(
        self, session: str, length: int, path: Sequence[int] = (), open_nodes: Sequence[int] = ()
    ) -> None:
        """Roll back; a session that lost its pages meanwhile is left alone."""
        if self._pool.admission(session):
            super().keep(session, length, path, open_nodes)

    def admission(self, session: str) -> int:
        """A number that changes when a session loses its pages; 0 for one without."""
        return self._pool.admission(session)

    def sent(self, session: str, length: int) -> None:
        """Count committed tokens as cached that are on their way to the stages: further pieces follow them."""
        if self._pool.admission(session):
            self._pool.fed(session, length)

    def set_threads(self, threads: int) -> None:
        """Use this many threads from the next pass on."""
        self._outer.set_threads(threads)

    def cost_s(self, rows: Sequence[TargetRow]) -> float:
        """Modelled seconds of `finish` for a piece of these rows; 0.0 of a real model."""
        return self._outer.cost_s(rows)

    def forward(self, rows: Sequence[TargetRow]) -> list[Choices]:
        """Not how a pipeline works: see `launch`."""
        raise NotImplementedError("a pipelined target launches passes")

    def _piece(self, rows: Sequence[TargetRow], counted: bool) -> tuple[Launched, Piece]:
        placed = [self._place(index, row) for index, row in enumerate(rows)]
        packing = pack(placed, self._page_tokens, self.pool_tokens, self._call_cost)
        ordered = [one for group in packing.groups for one in group.rows]
        self._sent += 1
        piece = Piece(
            number=self._sent,
            sources=tuple(self._moves.values()),
            targets=tuple(self._moves),
            rows=tuple(piece_row(one) for one in ordered),
            hidden=self._outer.embed(packing.ids),
        )
        self._moves = {}
        admissions = tuple(self._pool.admission(row.session) for row in rows)
        return Launched(self._sent, tuple(rows), packing, admissions, counted), piece

    def _move(self, source: Sequence[int], target: Sequence[int]) -> None:
        """Add moves to those before, of which they see the results: all together are carried out at once."""
        read = [self._moves.get(slot, slot) for slot in source]
        self._moves.update(zip(target, read, strict=True))


def piece_row(placed: Placed) -> PieceRow:
    """What the stages need of a row."""
    row = placed.row
    return PieceRow(
        start=row.start,
        count=len(row.tokens),
        committed=row.committed,
        parents=tuple(row.parents),
        open=tuple(row.open),
        table=tuple(placed.table),
    )


def split_rows(rows: Sequence[TargetRow], tokens: int) -> list[list[TargetRow]]:
    """Rows as the pieces of a pass: at most `tokens` committed tokens of a row in each, its last part in the last one.

    So every row is whole after the last piece, and short rows stand in it with everybody's choices.
    """
    parts = max((_chunks(row, tokens) for row in rows), default=1)
    pieces: list[list[TargetRow]] = [[] for _ in range(parts)]
    for row in rows:
        chunks = _chunks(row, tokens)
        for chunk in range(chunks - 1):
            begin = chunk * tokens
            pieces[parts - chunks + chunk].append(
                replace(
                    row,
                    start=row.start + begin,
                    tokens=row.tokens[begin : begin + tokens],
                    committed=tokens,
                    choose=False,
                    parents=(),
                )
            )
        begin = (chunks - 1) * tokens
        pieces[-1].append(
            replace(row, start=row.start + begin, tokens=row.tokens[begin:], committed=row.committed - begin)
        )
    return pieces


def _chunks(row: TargetRow, tokens: int) -> int:
    return max(1, -(-row.committed // tokens))
