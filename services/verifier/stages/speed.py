"""How fast this process computes the layers of a model, measured in a fraction of a second at the start."""

import time
from typing import Any, Final

import torch

from services.verifier.stages.block import Block, to_bytes
from services.verifier.stages.messages import Piece, PieceRow
from services.verifier.stages.parts import random_block

TOKENS: Final = 8
PASSES: Final = 40
SLOTS: Final = 64


def layer_ms(config: Any, dtype: torch.dtype, place: torch.device) -> float:
    """The quickest of a few passes of TOKENS tokens through one layer with random weights, in ms."""
    page_tokens = 16
    body = random_block(config, 1, dtype, place)
    block = Block(body, kv_tokens=SLOTS, page_tokens=page_tokens, call_cost=1, dtype=dtype)
    hidden = to_bytes(torch.randn(TOKENS, config.hidden_size).to(dtype))
    row = PieceRow(
        start=0, count=TOKENS, committed=1, parents=(), open=(), table=tuple(range(SLOTS // page_tokens))
    )
    piece = Piece(0, (), (), (row,), hidden)
    best = float("inf")
    for _ in range(PASSES):
        begun = time.perf_counter()
        block.run(piece)
        best = min(best, time.perf_counter() - begun)
    return best * 1e3
