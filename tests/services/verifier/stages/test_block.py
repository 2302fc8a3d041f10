"""A stage's layers compute what the whole model's do, and refuse pieces that do not fit their pool."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from services.verifier.stages.block import Block, PieceError, from_bytes, to_bytes
from services.verifier.stages.messages import Piece, PieceRow
from services.verifier.stages.parts import load_block
from tests.services.verifier.stages.rings import CPU, saved
from tests.services.verifier.tiny import build, configs

HIDDEN = 32
SLOTS = 64
ROW = PieceRow(start=0, count=3, committed=2, parents=(), open=(), table=(0, 1))


@pytest.fixture(scope="module")
def block(tmp_path_factory: pytest.TempPathFactory) -> Block:
    """All layers of a tiny model, with a pool of 16 pages of 4."""
    config = configs()["llama"]
    weights = saved(config, tmp_path_factory.mktemp("tiny"))
    body = load_block(weights, config, 0, 4, torch.float32, CPU)
    return Block(body, kv_tokens=SLOTS, page_tokens=4, call_cost=1, dtype=torch.float32)


def piece(*rows: PieceRow, hidden_rows: int = -1, **changed: Any) -> Piece:
    tokens = sum(row.count for row in rows) if hidden_rows < 0 else hidden_rows
    return Piece(
        1,
        **{"sources": (), "targets": (), **changed},
        rows=rows,
        hidden=to_bytes(torch.zeros(tokens, HIDDEN)),
    )


@torch.inference_mode()
def test_it_computes_what_the_whole_model_computes(block: Block) -> None:
    model = build(configs()["llama"])
    ids = torch.arange(3, 12)
    embedded = model.get_input_embeddings()(ids)
    row = PieceRow(0, 9, 9, (), (), (5, 2, 9))
    got = from_bytes(block.run(Piece(1, (), (), (row,), to_bytes(embedded))), HIDDEN, torch.float32)
    whole = model.model(ids[None], use_cache=False).last_hidden_state[0]
    torch.testing.assert_close(model.model.norm(got), whole, atol=1e-4, rtol=1e-4)


def test_a_piece_without_rows_only_moves(block: Block) -> None:
    assert block.run(piece(sources=(1, 2), targets=(3, 4))) == b""


@pytest.mark.parametrize(
    "wrong",
    [
        replace(ROW, count=0),
        replace(ROW, committed=0),
        replace(ROW, committed=4),
        replace(ROW, table=()),
        replace(ROW, start=6),  # beyond its own pages
        replace(ROW, table=(0, 16)),  # beyond the pool
        replace(ROW, table=(0, (1 << 53) - 1)),
        replace(ROW, start=(1 << 53) - 1),
        replace(ROW, parents=(-1, 0)),  # one draft, two parents
        replace(ROW, parents=(0,)),  # its own parent
        replace(ROW, open=(-1,)),  # committed tokens behind open nodes
        replace(ROW, committed=0, parents=(-1, 2, 0), open=(-1,)),  # the second new node its own parent
        replace(ROW, committed=0, parents=(-1, 0, 1), open=(-1,) * 6),  # open nodes take the room
    ],
)
def test_a_row_that_does_not_fit_is_refused(block: Block, wrong: PieceRow) -> None:
    with pytest.raises(PieceError, match="row 1 does not fit the pool of 64 slots"):
        block.run(piece(ROW, wrong))


@pytest.mark.parametrize(
    "moves",
    [
        {"sources": (64,), "targets": (0,)},
        {"sources": (0,), "targets": (64,)},
        {"sources": (0, 1), "targets": (2,)},
        {"sources": (), "targets": (2,)},
    ],
)
def test_moves_beyond_the_pool_are_refused(block: Block, moves: dict[str, Any]) -> None:
    with pytest.raises(PieceError, match="beyond the pool of 64 slots"):
        block.run(piece(ROW, **moves))


def test_hidden_rows_must_be_those_of_the_tokens(block: Block) -> None:
    with pytest.raises(PieceError, match="2 hidden rows"):
        block.run(piece(ROW, hidden_rows=2))
    with pytest.raises(PieceError, match="are no rows of 32"):
        block.run(replace(piece(ROW), hidden=b"123"))


def test_values_as_bytes() -> None:
    values = torch.randn(3, HIDDEN).to(torch.bfloat16)
    assert torch.equal(from_bytes(to_bytes(values), HIDDEN, torch.bfloat16), values)
    assert from_bytes(b"", HIDDEN, torch.float32).shape == (0, HIDDEN)
