"""How fast this process computes the layers of a model, measured in a fraction of a second at the start."""

import time
from typing import Any, Final

import torch

from services.verifier.stages.block import Block, to_bytes
from services.verifier.stages.messages import Piece, PieceRow
from services.verifier.stages.parts import random_block

MANY: Final = 17  # tokens of the longer passes
PASSES: Final = 30
SLOTS: Final = 64
PAGE: Final = 16
MIN_SHARE: Final = 0.01  # of a further token, of the time of the first: a noisy measurement may find none


def layer_times_ms(config: Any, dtype: torch.dtype, place: torch.device) -> tuple[float, float]:
    """Time of one layer with random weights in ms: for one token, and for each further one of the same pass."""
    body = random_block(config, 1, dtype, place)
    block = Block(body, kv_tokens=SLOTS, page_tokens=PAGE, call_cost=1, dtype=dtype)
    pieces = {tokens: _piece(config.hidden_size, tokens, dtype) for tokens in (1, MANY)}
    best = dict.fromkeys(pieces, float("inf"))
    for _ in range(PASSES):
        for tokens, piece in pieces.items():
            begun = time.perf_counter()
            block.run(piece)
            best[tokens] = min(best[tokens], (time.perf_counter() - begun) * 1e3)
    return best[1], max((best[MANY] - best[1]) / (MANY - 1), MIN_SHARE * best[1])


def _piece(hidden: int, tokens: int, dtype: torch.dtype) -> Piece:
    row = PieceRow(
        start=0, count=tokens, committed=tokens, parents=(), open=(), table=tuple(range(SLOTS // PAGE))
    )
    return Piece(0, (), (), (row,), to_bytes(torch.randn(tokens, hidden).to(dtype)))
