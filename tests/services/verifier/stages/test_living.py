"""What is left of a piece when some of its nodes are dead: the same rows without them, in every stage."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from services.verifier.stages.block import Block, from_bytes, to_bytes
from services.verifier.stages.living import filled, leave_out, living_rows, tokens_of
from services.verifier.stages.messages import Piece, PieceRow
from services.verifier.stages.parts import load_block
from tests.services.verifier.stages.rings import CPU, saved
from tests.services.verifier.tiny import configs

CHAIN = PieceRow(0, 4, 4, (), (), (0,))
TREE = PieceRow(4, 6, 1, (-1, 0, -1, 2, 3), (), (1, 2, 5))  # its root, and five nodes
OPEN = PieceRow(5, 4, 0, (-1, 0, 2, 1), (-1, -1), (3, 4, 6))  # two nodes are in the cache
WIDTH = 4
HIDDEN = 32


def piece(*rows: PieceRow, dead: tuple[int, ...] = ()) -> Piece:
    count = tokens_of(rows)
    hidden = b"".join(bytes([token]) * WIDTH for token in range(count) if token not in dead)
    return Piece(1, (), (), rows, hidden, dead=dead)


def test_hidden_rows_of_the_dead_go() -> None:
    left = leave_out(piece(CHAIN, TREE), [9, 5, 99])
    assert left.dead == (5, 9)
    assert left == piece(CHAIN, TREE, dead=(5, 9))
    assert leave_out(left, [5]) is left
    assert leave_out(left, [6, 9]) == piece(CHAIN, TREE, dead=(5, 6, 9))
    assert leave_out(replace(left, hidden=b"odd"), [7]) == replace(
        left, hidden=b"odd"
    )  # the block refuses it


def test_a_row_becomes_one_for_each_run_of_its_tokens() -> None:
    rows = living_rows(piece(CHAIN, TREE, dead=(4 + 2, 4 + 5)))
    assert rows == [
        CHAIN,
        PieceRow(4, 2, 1, (-1,), (), (1, 2, 5)),
        PieceRow(5, 2, 0, (-1, 2), (-1, 0), (1, 2, 5)),
    ]
    assert living_rows(piece(OPEN, dead=(0, 2))) == [
        PieceRow(5, 1, 0, (0,), (-1, -1, -1), (3, 4, 6)),
        PieceRow(5, 1, 0, (1,), (-1, -1, -1, 0, 2), (3, 4, 6)),
    ]
    assert living_rows(piece(CHAIN, TREE)) == [CHAIN, TREE]
    assert living_rows(piece(TREE, dead=tuple(range(6)))) == []


@given(st.sets(st.integers(0, 13)))
def test_what_is_left_out_is_filled_with_what_is_left(dead: set[int]) -> None:
    left = leave_out(piece(CHAIN, TREE, OPEN), dead)
    whole = filled(left.hidden, 14, left.dead)
    if len(dead) == 14:
        assert whole == b""
        return
    assert len(whole) == 14 * WIDTH
    for token in set(range(14)) - dead:
        assert whole[token * WIDTH : (token + 1) * WIDTH] == bytes([token]) * WIDTH


@pytest.fixture(scope="module")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Block, Block]:
    """Twice the layers of a tiny model, each with a pool of its own."""
    config = configs()["llama"]
    weights = saved(config, tmp_path_factory.mktemp("tiny"))
    body = load_block(weights, config, 0, 4, torch.float32, CPU)
    pool: dict[str, Any] = {"kv_tokens": 64, "page_tokens": 4, "call_cost": 1, "dtype": torch.float32}
    return Block(body, **pool), Block(body, **pool)


def descendants(row: PieceRow, dead: set[int]) -> set[int]:
    """Dead nodes with all that follow them, as tokens of the row. Committed tokens never die."""
    opened = len(row.open)
    gone: set[int] = set()
    for node, parent in enumerate(row.parents):
        at = row.committed + node
        if at in dead or (parent >= opened and row.committed + parent - opened in gone):
            gone.add(at)
    return gone


@settings(max_examples=40, deadline=None)
@given(st.sets(st.integers(1, 5)), st.sets(st.integers(0, 3)))
def test_the_living_come_out_alike_and_leave_the_same_kv(
    blocks: tuple[Block, Block], in_tree: set[int], in_open: set[int]
) -> None:
    """Two stages read the same; one leaves the dead out. A later node sees no difference either."""
    whole, lean = blocks
    torch.manual_seed(1)
    hidden = torch.randn(14, HIDDEN)
    caches = PieceRow(0, 7, 7, (), (), (3, 4, 6))  # committed tokens, and what the open nodes are then
    tree_prefix = PieceRow(0, 4, 4, (), (), (1, 2, 5))
    first = Piece(1, (), (), (tree_prefix, caches), to_bytes(torch.randn(11, HIDDEN)))
    assert whole.run(first) == lean.run(first)
    sent = Piece(2, (), (), (CHAIN, TREE, OPEN), to_bytes(hidden))
    dead = {4 + at for at in descendants(TREE, in_tree)} | {10 + at for at in descendants(OPEN, in_open)}
    left = leave_out(sent, dead)
    full = from_bytes(whole.run(sent), HIDDEN, torch.float32)
    part = from_bytes(lean.run(left), HIDDEN, torch.float32)
    living = [token for token in range(14) if token not in dead]
    np.testing.assert_allclose(part.numpy(), full[living].numpy(), atol=1e-4, rtol=1e-4)
    if 4 + 1 not in dead:  # a child of the first node, in a further piece
        child = PieceRow(5, 1, 0, (0,), TREE.parents, (1, 2, 5))
        next_piece = Piece(3, (), (), (child,), to_bytes(torch.randn(1, HIDDEN)))
        one, other = (from_bytes(block.run(next_piece), HIDDEN, torch.float32) for block in (whole, lean))
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=1e-4, rtol=1e-4)
