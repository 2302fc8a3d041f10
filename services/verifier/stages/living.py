"""Leaves rows of a piece out that are known to be dead: nodes whose parent was decided otherwise. Pure.

Nothing that lives looks at a dead node, so its KV is not missed. Tokens of a piece are counted over all its rows.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import groupby

from services.verifier.stages.messages import Piece, PieceRow


def tokens_of(rows: Sequence[PieceRow]) -> int:
    """Tokens of all rows, dead ones included."""
    return sum(row.count for row in rows)


def leave_out(piece: Piece, dead: Collection[int]) -> Piece:
    """The piece without these tokens as well. Unknown ones are ignored, and all if its hidden rows do not fit."""
    before, count = set(piece.dead), tokens_of(piece.rows)
    now = before | {token for token in dead if token < count}
    width, rest = divmod(len(piece.hidden), max(1, count - len(before)))
    if now == before or rest:
        return piece
    living = [token for token in range(count) if token not in before]
    kept = [
        piece.hidden[at * width : (at + 1) * width] for at, token in enumerate(living) if token not in now
    ]
    return replace(piece, hidden=b"".join(kept), dead=tuple(sorted(now)))


def living_rows(piece: Piece) -> list[PieceRow]:
    """Rows with the tokens that are left, in their order: of a row with gaps one for each run of its tokens.

    A later run has the nodes before it as open ones, whether they live or not.
    """
    if not piece.dead:
        return list(piece.rows)
    dead, rows, begin = set(piece.dead), [], 0
    for row in piece.rows:
        for lives, run in groupby(range(row.count), key=lambda at: begin + at not in dead):
            if lives:
                places = list(run)
                rows.append(_cut_row(row, places[0], places[-1] + 1))
        begin += row.count
    return rows


def _cut_row(row: PieceRow, first: int, last: int) -> PieceRow:
    """A row's tokens from first to last, the latter excluded."""
    if (first, last) == (0, row.count):
        return row
    if first == 0:
        return replace(row, count=last, parents=row.parents[: max(0, last - row.committed)])
    # Committed tokens never die before the nodes behind them, so that `first` is behind them.
    begin, end = first - row.committed, last - row.committed
    return PieceRow(
        start=row.start + row.committed,
        count=last - first,
        committed=0,
        parents=row.parents[begin:end],
        open=(*row.open, *row.parents[:begin]),
        table=row.table,
    )


def filled(hidden: bytes, count: int, dead: Collection[int]) -> bytes:
    """Hidden rows of `count` tokens, where those that are left out repeat another: whatever they say is not used.

    b"" when none is left.
    """
    left = count - len(dead)
    if not dead or not left:
        return hidden
    width, gone = len(hidden) // left, set(dead)
    rows, at = [], 0
    for token in range(count):
        place = min(at, left - 1)
        rows.append(hidden[place * width : (place + 1) * width])
        at += token not in gone
    return b"".join(rows)
