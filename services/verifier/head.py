"""The output head in float32, on the few positions whose logits are needed.

With a bfloat16 head 7.6 % of positions have an exact tie of the two likeliest tokens, which would leave the
choice to chance. The hidden rows are exact in bfloat16 anyway, so what it takes is products summed and given
back in float32. CUDA does that in one call. A CPU converts the weight a few thousand rows at a time, small
enough to stay in its cache: it reads no more memory than the bfloat16 weight, and needs no float32 copy.
"""

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHUNK_BYTES: Final = 4 << 20  # of float32 weight converted at once


class Head:
    """Hidden rows [n, hidden] -> logits [n, vocabulary rows] float32."""

    def __init__(self, linear: nn.Linear, softcap: float | None) -> None:
        self._linear = linear
        self._softcap = softcap

    def logits(self, hidden: Tensor) -> Tensor:
        """The target's raw logits, softcap included."""
        weight = self._linear.weight
        if weight.dtype == torch.float32:
            logits: Tensor = self._linear(hidden)
        elif weight.device.type == "cuda":
            logits = torch.mm(hidden, weight.t(), out_dtype=torch.float32)
        else:
            logits = chunked(hidden.float(), weight)
        if self._softcap is not None:
            logits = logits.div_(self._softcap).tanh_().mul_(self._softcap)
        return logits


def chunked(hidden: Tensor, weight: Tensor) -> Tensor:
    """hidden @ weight.T in float32, the weight converted chunk by chunk. [n, hidden], [V, hidden] -> [n, V]"""
    rows = max(1, CHUNK_BYTES // (4 * weight.shape[1]))
    logits = hidden.new_empty(hidden.shape[0], weight.shape[0])
    for begin in range(0, weight.shape[0], rows):
        part = weight[begin : begin + rows]
        logits[:, begin : begin + rows] = F.linear(hidden, part.float())
    return logits
