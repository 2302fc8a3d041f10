"""The hidden rows of a live pipeline: tensors of the law's size whose numbers show which stages a row has passed."""

from collections.abc import Sequence
from typing import Final

import torch

from services.verifier.stages.link import LinkBroken
from simulator.pipeline.laws import ROW_BYTES
from simulator.pipeline.ring import Row

ROW_NUMBERS: Final = ROW_BYTES // 2  # of 16 bits
MARKS: Final = 1000  # first values of a row; float16 is exact up to 2,048, so with 64 stages too


def embed(rows: Sequence[Row]) -> torch.Tensor:
    """[rows, ROW_NUMBERS] float16: each row has its token's mark everywhere."""
    marks = torch.tensor([float(row.token % MARKS) for row in rows], dtype=torch.float16)
    return marks[:, None].repeat(1, ROW_NUMBERS)


def to_bytes(hidden: torch.Tensor) -> bytes:
    """A tensor as it is sent."""
    data: bytes = hidden.numpy().tobytes()
    return data


def to_tensor(data: bytes, rows: int) -> torch.Tensor:
    """What `to_bytes` made. Raises LinkBroken for another number of rows."""
    if len(data) != rows * ROW_BYTES:
        raise LinkBroken(f"{rows} rows with {len(data)} bytes of activations")
    if not rows:
        return torch.empty((0, ROW_NUMBERS), dtype=torch.float16)
    return torch.frombuffer(bytearray(data), dtype=torch.float16).view(rows, ROW_NUMBERS)


def passed(hidden: torch.Tensor, kept: Sequence[int]) -> torch.Tensor:
    """What a stage makes of the rows `kept`: each number is one higher."""
    return hidden[list(kept)] + 1.0


def check(hidden: torch.Tensor, rows: Sequence[Row], stages: int) -> None:
    """Raise LinkBroken unless each row belongs to its token and has passed every stage once."""
    if rows and not torch.equal(hidden, embed(rows) + float(stages)):
        raise LinkBroken("activations do not belong to their rows, or have not passed every stage")
