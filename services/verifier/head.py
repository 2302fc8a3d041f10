"""The output head in float32, on the few positions whose logits are needed.

With a bfloat16 head 7.6 % of positions have an exact tie of the two likeliest tokens, which would leave the
choice to chance. The hidden rows are exact in bfloat16 anyway, so what it takes is products summed and given
back in float32: one call on CUDA; on a CPU as its linear layers do it.
"""

from typing import Any

import torch
from torch import Tensor, nn

from services.verifier.linear import WideLinear, widened


class Head:
    """Hidden rows [n, hidden] -> logits [n, vocabulary rows] float32."""

    def __init__(self, linear: nn.Module, softcap: float | None) -> None:
        self._linear = linear
        self._softcap = softcap

    def logits(self, hidden: Tensor) -> Tensor:
        """The target's raw logits, softcap included."""
        logits = self._product(hidden)
        if self._softcap is not None:
            logits = logits.div_(self._softcap).tanh_().mul_(self._softcap)
        return logits

    def _product(self, hidden: Tensor) -> Tensor:
        if hidden.dtype == torch.float32:
            logits: Tensor = self._linear(hidden)
            return logits
        if isinstance(self._linear, WideLinear):
            return self._linear.product(hidden.float())
        weight: Any = self._linear.weight
        if hidden.is_cuda:
            return torch.mm(hidden, weight.t(), out_dtype=torch.float32)
        return widened(hidden.float(), weight)
