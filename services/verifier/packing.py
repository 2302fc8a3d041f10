"""A batch laid out for one forward pass: all rows' new tokens in one sequence, grouped for attention. Pure.

Linear layers see one sequence of T tokens, whatever rows they belong to. Attention is computed group by group:
the rows of a group are padded to their longest, so that one call serves them all. Rows are reordered so that
a group's tokens are neighbours.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from shared.compute.target import TargetRow

Ids = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

QUERY_WEIGHT: Final = (
    4  # a cached position costs as much by being read as by being met by this many new tokens
)


@dataclass(frozen=True, slots=True)
class Placed:
    """A row and the place of its KV."""

    index: int  # in the batch as it came
    row: TargetRow
    table: Sequence[int]  # pages
    run: int | None  # first slot, when the pages are one run of slots; else None

    @property
    def length(self) -> int:
        """Positions the row's last token may look at: cached and new."""
        return self.row.first + len(self.row.tokens)

    @property
    def area(self) -> int:
        """Cost of its attention, in units of 1 / QUERY_WEIGHT of reading a cached position."""
        return (QUERY_WEIGHT + len(self.row.tokens)) * self.length


@dataclass(frozen=True, slots=True)
class RowGroup:
    """Rows whose attention is one call. R rows, padded to `queries` new tokens and `length` positions.

    Their tokens are [begin, begin + sum of counts) of the packed sequence. Views: row r's positions are slots
    first + r · stride onwards; without them (first is None) they are gathered by the page tables.
    """

    rows: tuple[Placed, ...]
    begin: int
    queries: int
    length: int
    first: int | None
    stride: int

    @property
    def tokens(self) -> int:
        """New tokens of all its rows."""
        return sum(len(placed.row.tokens) for placed in self.rows)

    @property
    def ragged(self) -> bool:
        """Whether some row has fewer new tokens than another."""
        return self.tokens != self.queries * len(self.rows)

    def pad(self) -> Ids:
        """For each padded query the token it is, counted from `begin`; a row's last one repeated. [R · queries]"""
        counts = np.array([len(placed.row.tokens) for placed in self.rows])
        begins = np.cumsum(counts) - counts
        query = np.minimum(np.arange(self.queries), counts[:, None] - 1)
        tokens: Ids = (begins[:, None] + query).reshape(-1)
        return tokens

    def unpad(self) -> Ids:
        """For each token its padded query. [tokens]"""
        return np.concatenate(
            [r * self.queries + np.arange(len(placed.row.tokens)) for r, placed in enumerate(self.rows)]
        )


@dataclass(frozen=True, slots=True)
class Packing:
    """T tokens of all rows. Of each choosing row the tokens that a choice follows are in `chosen`."""

    ids: Ids  # [T]
    positions: Ids  # [T], absolute
    slots: Ids  # [T], where in the pool their KV goes
    groups: tuple[RowGroup, ...]
    chosen: Ids  # [n], tokens of the packed sequence
    choosers: tuple[Placed, ...]  # in the order of `chosen`: 1 + drafts each


def pack(placed: Sequence[Placed], page_tokens: int, slots: int, call_cost: int) -> Packing:
    """Lay out a batch. slots: of the pool. call_cost: unneeded positions read at most to save one call."""
    groups = group_rows(placed, slots, call_cost)
    ordered = [one for group in groups for one in group.rows]
    counts = [len(one.row.tokens) for one in ordered]
    begins = np.cumsum([0, *counts])
    chosen = [
        np.arange(begin + count - one.row.choices, begin + count)
        for one, begin, count in zip(ordered, begins, counts, strict=False)
        if one.row.choose
    ]
    return Packing(
        ids=np.concatenate([np.asarray(one.row.tokens, dtype=np.int64) for one in ordered]),
        positions=np.concatenate([positions(one.row) for one in ordered]),
        slots=np.concatenate([slots_of(one, page_tokens) for one in ordered]),
        groups=tuple(groups),
        chosen=np.concatenate(chosen).astype(np.int64) if chosen else np.empty(0, dtype=np.int64),
        choosers=tuple(one for one in ordered if one.row.choose),
    )


def group_rows(placed: Sequence[Placed], slots: int, call_cost: int) -> list[RowGroup]:
    """Greedy: rows in order of place (views) or of size (gathered), a new group where padding costs more.

    Rows read as a view must start at equal distances, so any two of them can go together.
    """
    views = sorted((one for one in placed if one.run is not None), key=lambda one: one.run or 0)
    gathered = sorted(
        (one for one in placed if one.run is None), key=lambda one: (len(one.row.tokens), one.length)
    )
    groups: list[RowGroup] = []
    begin = 0
    for one in (*views, *gathered):
        wider = _joined(groups[-1], one, slots, call_cost) if groups else None
        if wider:
            groups[-1] = wider
        else:
            groups.append(RowGroup((one,), begin, len(one.row.tokens), one.length, one.run, 0))
        begin += len(one.row.tokens)
    return groups


def _joined(group: RowGroup, one: Placed, slots: int, call_cost: int) -> RowGroup | None:
    """The group with one more row, or None when that does not fit or pay."""
    if (group.first is None) != (one.run is None):
        return None
    rows = (*group.rows, one)
    queries, length = max(group.queries, len(one.row.tokens)), max(group.length, one.length)
    wasted = (QUERY_WEIGHT + queries) * length * len(rows) - sum(member.area for member in rows)
    if wasted > QUERY_WEIGHT * call_cost * (len(rows) - 1):
        return None
    if group.first is None or one.run is None:
        return RowGroup(rows, group.begin, queries, length, None, 0)
    stride = group.stride or one.run - group.first
    if one.run != group.first + stride * (len(rows) - 1) or one.run + length > slots:
        return None
    return RowGroup(rows, group.begin, queries, length, group.first, stride)


def run_of(table: Sequence[int], page_tokens: int) -> int | None:
    """The first slot of a table whose pages follow one another; None when they do not."""
    first = table[0]
    return first * page_tokens if all(page == first + i for i, page in enumerate(table)) else None


def slots_of(placed: Placed, page_tokens: int) -> Ids:
    """Slots of the pool for the row's new tokens. [tokens]"""
    index = np.arange(placed.row.first, placed.length)
    if placed.run is not None:
        return placed.run + index
    slots: Ids = (
        np.asarray(placed.table, dtype=np.int64)[index // page_tokens] * page_tokens + index % page_tokens
    )
    return slots


def positions(row: TargetRow) -> Ids:
    """Absolute positions of the row's tokens: a tree's nodes stand at their depth. [tokens]"""
    chain = np.arange(row.start, row.start + len(row.tokens), dtype=np.int64)
    if row.parents:
        below = depths(row.nodes)[len(row.open) :]
        chain[row.committed :] = row.start + row.committed + np.asarray(below)
    return chain


def depths(parents: Sequence[int]) -> list[int]:
    """Depth of each node of a draft tree below the committed prefix; 0 for a root. [-1, -1, 0, 2] -> [0, 0, 1, 2]"""
    depth: list[int] = []
    for parent in parents:
        depth.append(0 if parent == -1 else depth[parent] + 1)
    return depth


def tree_block(row: TargetRow, window: int | None) -> Mask:
    """Which new token sees what behind `start`, for a row with a draft tree: open nodes, then new tokens.

    [tokens, open + tokens]. Node i sees its ancestors.
    """
    opened, committed = len(row.open), row.committed
    total = opened + len(row.tokens)
    sees: Mask = np.tri(total, dtype=np.bool_)
    for node, parent in enumerate(row.nodes):
        at = committed + node
        sees[at, committed:at] = sees[committed + parent, committed:at] if parent >= 0 else False
    if window is not None:
        places = np.arange(row.start, row.start + total)
        places[committed:] = row.start + committed + np.asarray(depths(row.nodes))
        sees &= places[:, None] - places[None, :] < window
    return sees[opened:]


def choice_positions(row: TargetRow) -> list[int]:
    """The absolute position of each choice, which its noise is keyed by. [choices]"""
    root = row.start + row.committed
    drafted = len(row.tokens) - row.committed
    below = depths(row.nodes)[len(row.open) :] if row.parents else range(drafted)
    after = [root + depth + 1 for depth in below]
    return [root, *after] if row.committed else after
