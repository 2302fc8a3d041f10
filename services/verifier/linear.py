"""Linear layers in a layout for verification on a CPU, with a few to a few dozen rows per product.

A verification has too many rows for a matrix-vector product and too few for a big one, where BLAS spends its
time rearranging the weight. Measured on one core (135M, all layers, float32, ms as they come and with the weight
rearranged once at load): 1 row 49 and 45, 2 rows 78 and 41, 3 rows 96 and 35, 8 rows 81 and 46, 40 rows 177 and 119
(AMD EPYC with AVX-512); 1 row 30 and 34, 8 rows 69 and 45, 40 rows 107 and 84 (another machine).

bfloat16 without the instructions for it is slower still (40 rows 392 ms). There the product is taken in float32 and
the result rounded to bfloat16: the arithmetic of such instructions, which sum in float32 as well. A small model keeps
a float32 copy of its weights for that, in oneDNN's layout; of a large one each weight is widened anew, piece by piece,
small enough to stay in the core's cache.
"""

from collections.abc import Iterable
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDE_BYTES: Final = 1 << 30  # float32 copies of bfloat16 weights are kept while they are this small
MIN_ROWS: Final = 3  # oneDNN takes longer for one or two (measured)
PIECE_BYTES: Final = 1 << 20  # of float32 weight widened at once

_reorder: Any = getattr(torch.ops.mkldnn, "_reorder_linear_weight", None)
_linear: Any = getattr(torch.ops.mkldnn, "_linear_pointwise", None)


class ReorderedLinear(nn.Module):
    """nn.Linear in float32 with its weight in oneDNN's own layout, which replaces the one it came in."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.bias = linear.bias
        self._reordered: Tensor = _reorder(linear.weight.detach(), 16)

    def forward(self, x: Tensor) -> Tensor:
        """x: [..., in] -> [..., out]"""
        return _product(x, self._reordered, self.bias)


class RowsLinear(nn.Module):
    """A linear layer in float32 without a bias, its weight in blocks of rows, each in oneDNN's layout.

    Rearranging a whole output head would need its memory twice.
    """

    def __init__(self, blocks: Iterable[Tensor]) -> None:
        """blocks: [some out, in] each."""
        super().__init__()
        self._reordered = [(_reorder(block, 16), len(block)) for block in blocks]
        self.rows = sum(rows for _, rows in self._reordered)

    def forward(self, x: Tensor) -> Tensor:
        """x: [..., in] -> [..., out]"""
        return torch.cat([_product(x, block, None) for block, _ in self._reordered], dim=-1)


class WideLinear(nn.Module):
    """nn.Linear in bfloat16, computed in float32 with a copy of its weight in oneDNN's layout."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight = linear.weight  # an embedding may be tied to it
        self._narrow_bias = linear.bias
        self.bias = None if linear.bias is None else linear.bias.float()
        self._reordered: Tensor = _reorder(linear.weight.detach().float(), 16)

    def forward(self, x: Tensor) -> Tensor:
        """x: [..., in] -> [..., out]. A single row is faster with half the bytes."""
        if x.numel() == x.shape[-1]:
            return F.linear(x, self.weight, self._narrow_bias)
        return self.product(x.float()).to(x.dtype)

    def product(self, x: Tensor) -> Tensor:
        """x: [..., in] float32 -> [..., out] float32, not rounded"""
        return _product(x, self._reordered, self.bias)


class WidenedLinear(nn.Module):
    """nn.Linear in bfloat16, computed in float32."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """x: [..., in] -> [..., out]"""
        if x.numel() == x.shape[-1]:
            return F.linear(x, self.weight, self.bias)
        y = widened(x.float(), self.weight)
        if self.bias is not None:
            y += self.bias
        return y.to(x.dtype)


def widened(x: Tensor, weight: Tensor) -> Tensor:
    """x @ weight.T in float32. x: [..., in] float32, weight: [out, in] bfloat16 -> [..., out] float32"""
    rows = max(1, PIECE_BYTES // (4 * weight.shape[1]))
    if rows >= weight.shape[0]:
        return F.linear(x, weight.float())
    pieces = (weight[begin : begin + rows] for begin in range(0, weight.shape[0], rows))
    return torch.cat([F.linear(x, piece.float()) for piece in pieces], dim=-1)


def _product(x: Tensor, reordered: Tensor, bias: Tensor | None) -> Tensor:
    """x: [..., in] float32 -> [..., out] float32"""
    missing = MIN_ROWS - x.numel() // x.shape[-1]
    if missing <= 0:
        y: Tensor = _linear(x, reordered, bias, "none", [], "")
        return y
    rows = F.pad(x.reshape(-1, x.shape[-1]), (0, 0, 0, missing))
    y = _linear(rows, reordered, bias, "none", [], "")
    return y[: MIN_ROWS - missing].view(*x.shape[:-1], y.shape[-1])


def keeps_copies(model: nn.Module) -> bool:
    """Whether bfloat16 weights of this model may have copies in float32. Its weights need not be there yet."""
    linears = [module for module in model.modules() if type(module) is nn.Linear]
    return reorders() and 4 * sum(linear.weight.numel() for linear in linears) <= WIDE_BYTES


def fit_linears(model: nn.Module, copied: bool | None = None) -> None:
    """Replace the model's linear layers by the form that is fastest where it runs. A GPU's stay as they are.

    copied: of `keeps_copies`, where this is a part of a model.
    """
    linears = [module for module in model.modules() if type(module) is nn.Linear]
    if not linears or linears[0].weight.device.type != "cpu":
        return
    dtype = linears[0].weight.dtype
    copied = keeps_copies(model) if copied is None else copied
    del linears  # nothing here may hold them, so that each weight goes when its other layout is there
    for parent in [module for module in model.modules() if type(module) is not nn.Linear]:
        for name in [name for name, child in parent.named_children() if type(child) is nn.Linear]:
            setattr(parent, name, _fitted(getattr(parent, name), copied))
    if dtype == torch.float32 and reorders():
        for parameter in model.parameters():  # those left may hold a whole mapped file of weights in memory
            parameter.data = parameter.data.clone()


def _fitted(linear: nn.Linear, copied: bool) -> nn.Module:
    """The layer in its fastest form. copied: bfloat16 weights may have copies in float32."""
    dtype = linear.weight.dtype
    if dtype == torch.float32 and reorders():
        return ReorderedLinear(linear)
    if dtype == torch.bfloat16 and not computes_bfloat16():
        return WideLinear(linear) if copied else WidenedLinear(linear)
    return linear


def reorders() -> bool:
    """Whether oneDNN's layout is available and useful: on x86 with AVX2 or newer."""
    return bool(_reorder and _linear and torch._C._has_mkldnn and torch.cpu._is_avx2_supported())


def computes_bfloat16() -> bool:
    """Whether this CPU has instructions for bfloat16 products."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
