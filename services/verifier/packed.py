"""Packed attention: each row's new tokens against that row's own cache, behind transformers' interface.

Registered as the attention implementation `outrider_packed`. transformers builds no mask for a name it does
not know, so causality, windows and draft trees are ours to apply. The pass travels in a keyword that the model
hands through to attention: `model(..., packed=PackedPass(...))`.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from services.verifier.families import AttentionShape
from services.verifier.lean_transformers import attention_interface
from services.verifier.packing import Packing, RowGroup, positions, tree_block

NAME: Final = "outrider_packed"


class KvStore:
    """Keys and values of all sessions: [layers, slots, kv_heads, head_dim] each. Slot = page · page_tokens + i."""

    def __init__(self, shape: AttentionShape, slots: int, dtype: torch.dtype, device: torch.device) -> None:
        size = (shape.layers, slots, shape.kv_heads, shape.head_dim)
        self.keys = zeros(size, dtype, device)
        self.values = zeros(size, dtype, device)
        self.slots = slots

    def move(self, source: Sequence[int] | Tensor, target: Sequence[int] | Tensor) -> None:
        """Copy the KV of slots, in every layer. Sources are read before targets are written."""
        device = self.keys.device
        read, write = torch.as_tensor(source, device=device), torch.as_tensor(target, device=device)
        for stored in (self.keys, self.values):
            stored.index_copy_(1, write, stored.index_select(1, read))


def zeros(size: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """torch.zeros; on a CPU a page of memory is not taken before it is written, which NumPy leaves to the system."""
    if device.type != "cpu":
        return torch.zeros(size, dtype=dtype, device=device)
    return torch.from_numpy(np.zeros((*size[:-1], size[-1] * dtype.itemsize), dtype=np.uint8)).view(dtype)


class GroupPass:
    """One group's part of a pass: its mask and how to read its rows. Shapes: R rows, Q queries, L positions."""

    def __init__(self, group: RowGroup, shape: AttentionShape, page_tokens: int, like: Tensor) -> None:
        self._shape = shape
        self._like = like  # for device and dtype
        self._group = group
        self.begin, self.end = group.begin, group.begin + group.tokens
        self._first = self._ints([placed.row.first for placed in group.rows])
        self._pad = self._ints(group.pad()) if group.ragged else None
        self._unpad = self._ints(group.unpad()) if group.ragged else None
        self._slots = self._gathered_slots(page_tokens) if group.first is None else None
        self._masks: dict[int | None, Tensor | None] = {}

    def queries(self, query: Tensor) -> Tensor:
        """Fold the heads that share a KV head into the queries. [heads, tokens, D] -> [R, kv_heads, heads/kv · Q, D]"""
        if self._pad is not None:
            query = query.index_select(1, self._pad)
        rows, kv_heads, dim = len(self._group.rows), self._shape.kv_heads, query.shape[2]
        if rows == 1:
            return query.reshape(1, kv_heads, -1, dim)
        split = query.reshape(kv_heads, -1, rows, self._group.queries, dim)
        return split.permute(2, 0, 1, 3, 4).reshape(rows, kv_heads, -1, dim)

    def outputs(self, output: Tensor) -> Tensor:
        """Undo `queries`. [R, kv_heads, heads/kv · Q, D] -> [tokens, heads, D]"""
        rows, kv_heads, _, dim = output.shape
        split = output.reshape(rows, kv_heads, -1, self._group.queries, dim)
        tokens = split.permute(0, 3, 1, 2, 4).reshape(rows * self._group.queries, -1, dim)
        return tokens if self._unpad is None else tokens.index_select(0, self._unpad)

    def context(self, stored: Tensor) -> Tensor:
        """The rows' cached keys or values of one layer. [slots, kv_heads, D] -> [R, kv_heads, L, D]"""
        group = self._group
        kv_heads, dim = stored.shape[1:]
        if self._slots is not None:
            return (
                stored.index_select(0, self._slots).view(len(group.rows), -1, kv_heads, dim).transpose(1, 2)
            )
        width = kv_heads * dim
        return stored.as_strided(
            (len(group.rows), kv_heads, group.length, dim),
            (group.stride * width, dim, width, 1),
            stored.storage_offset() + (group.first or 0) * width,
        )

    def mask(self, window: int | None) -> Tensor | None:
        """Added to the scores: 0 or -inf, [R, 1, heads/kv · Q, L]; None when everything may be seen."""
        if window not in self._masks:
            self._masks[window] = self._build_mask(window)
        return self._masks[window]

    def _build_mask(self, window: int | None) -> Tensor | None:
        group = self._group
        alone = (  # reads no unneeded position: a single token, of a row without open nodes beside its own path
            len(group.rows) == 1 and group.queries == 1 and self._slots is None and not group.rows[0].row.open
        )
        if alone and (window is None or group.length <= window):
            return None
        device = self._like.device
        key = torch.arange(self._positions, device=device)
        last = self._first[:, None, None] + torch.arange(group.queries, device=device)[:, None]  # [R, Q, 1]
        seen = key <= last
        if window is not None:
            seen &= key > last - window
        for r, placed in enumerate(group.rows):
            if placed.row.parents:
                self._see_tree(seen, r, window)
        mask = torch.zeros(seen.shape, dtype=self._like.dtype, device=device).masked_fill_(~seen, -torch.inf)
        folded = self._shape.heads // self._shape.kv_heads
        return mask[:, None].expand(-1, folded, -1, -1).reshape(len(group.rows), 1, -1, mask.shape[-1])

    def _see_tree(self, seen: Tensor, r: int, window: int | None) -> None:
        """Overwrite what row r's tokens see of one another, and of the cache where its nodes stand elsewhere."""
        row = self._group.rows[r].row
        count, start = len(row.tokens), row.start
        block = torch.from_numpy(tree_block(row, window)).to(seen.device)
        seen[r, :count, start : start + block.shape[1]] = block
        if window is not None:
            at = self._ints(positions(row))[:, None]
            seen[r, :count, :start] = torch.arange(start, device=seen.device) > at - window

    def _gathered_slots(self, page_tokens: int) -> Tensor:
        """Slots of each row's positions, rounded up to whole pages. [R · L]"""
        pages = -(-self._group.length // page_tokens)
        tables = [[*placed.table[:pages], *[0] * (pages - len(placed.table))] for placed in self._group.rows]
        offsets = torch.arange(page_tokens, device=self._like.device)
        return (self._ints(tables)[:, :, None] * page_tokens + offsets).reshape(-1)

    @property
    def _positions(self) -> int:
        """L: positions of each row that are read."""
        return self._group.length if self._slots is None else len(self._slots) // len(self._group.rows)

    def _ints(self, values: Any) -> Tensor:
        return torch.as_tensor(values, dtype=torch.int64).to(self._like.device, non_blocking=True)


class PackedPass:
    """Attention's inputs for one forward pass."""

    def __init__(self, packing: Packing, store: KvStore, shape: AttentionShape, page_tokens: int) -> None:
        self._store = store
        self._shape = shape
        self._slots = torch.from_numpy(packing.slots).to(store.keys.device, non_blocking=True)
        self._groups = [GroupPass(group, shape, page_tokens, store.keys) for group in packing.groups]

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float, softcap: float | None
    ) -> Tensor:
        """Write the new KV, then attend. [1, heads, T, D], [1, kv_heads, T, D] twice -> [1, T, heads, D]"""
        keys, values = self._store.keys[layer], self._store.values[layer]
        keys.index_copy_(0, self._slots, key[0].transpose(0, 1))
        values.index_copy_(0, self._slots, value[0].transpose(0, 1))
        window = self._shape.windows[layer]
        outputs = [
            group.outputs(
                attention(
                    group.queries(query[0, :, group.begin : group.end]),
                    group.context(keys),
                    group.context(values),
                    group.mask(window),
                    scale,
                    softcap,
                )
            )
            for group in self._groups
        ]
        return (outputs[0] if len(outputs) == 1 else torch.cat(outputs))[None]


def attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float, softcap: float | None
) -> Tensor:
    """Softmax attention. query: [R, H, Q, D], key and value: [R, H, L, D], mask: [R, 1, Q, L] -> [R, H, Q, D]"""
    if softcap is None:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale)
    scores = torch.tanh(query @ key.transpose(2, 3) * (scale / softcap)) * softcap
    if mask is not None:
        scores = scores + mask
    return torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype) @ value


def packed_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    packed: PackedPass,
    scaling: float,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """The attention function transformers calls in every layer."""
    layer: Any = module.layer_idx
    return packed.attend(layer, query, key, value, scaling, softcap), None


attention_interface().register(NAME, packed_attention)
