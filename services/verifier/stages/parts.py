"""The parts of a target model: a stage's layers, and what rank 0 keeps. Each rank reads only its own weights.

A stage is a smaller model of the same family: its configuration has as many layers as the stage, so that layers,
windows and KV are counted from 0 there.
"""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForCausalLM

from services.verifier.linear import RowsLinear, fit_linears, keeps_copies, reorders
from services.verifier.malloc_trim import trim
from services.verifier.packed import NAME
from services.verifier.weights import ModelFileError, Weights

HEAD_BYTES: Final = 32 << 20  # of an output head that are rearranged at once
PER_LAYER: Final = ("layer_types",)  # fields of a configuration with an entry for each layer


@dataclass(frozen=True, slots=True)
class Front:
    """What rank 0 keeps of a model: before its layers and after them."""

    embedding: nn.Module  # ids [T] -> [T, hidden]
    norm: nn.Module  # [T, hidden] -> [T, hidden]
    head: nn.Module  # [T, hidden] -> [T, rows]
    rows: int  # of the embedding


def block_config(config: Any, first: int, count: int) -> Any:
    """The configuration of layers [first, first + count) as a model of its own."""
    block = deepcopy(config)
    block.num_hidden_layers = count
    for field in PER_LAYER:
        if values := getattr(block, field, None):
            setattr(block, field, values[first : first + count])
    block.vocab_size, block.pad_token_id = 1, None  # a stage embeds nothing
    block.tie_word_embeddings = False
    return block


def load_block(
    weights: Weights, config: Any, first: int, count: int, dtype: torch.dtype, place: torch.device
) -> Any:
    """Layers [first, first + count) of a model with packed attention, as a decoder that takes hidden rows.

    One layer after the other is read and brought into its form, so that no more than these weights and one more matrix
    are in memory. Raises ModelFileError.
    """
    block = _skeleton(AutoModel, block_config(config, first, count))
    copied = keeps_copies(block)
    block.rotary_emb = type(block.rotary_emb)(config=block.config).to(place)
    block.embed_tokens = block.norm = nn.Identity()
    for index, layer in enumerate(block.layers):
        _fill(layer, weights, f"layers.{first + index}.", dtype, place)
        fit_linears(layer, copied)
        trim()
    _refuse_empty(block)
    block.eval().set_attn_implementation(NAME)
    return block


def random_block(config: Any, count: int, dtype: torch.dtype, place: torch.device) -> Any:
    """As load_block, with random weights: for measurements."""
    factory: Any = AutoModel
    with place:
        block = factory.from_config(block_config(config, 0, count), dtype=dtype)
    block.embed_tokens = block.norm = nn.Identity()
    fit_linears(block)
    block.eval().set_attn_implementation(NAME)
    return block


def load_front(weights: Weights, config: Any, dtype: torch.dtype, place: torch.device) -> Front:
    """Embedding, last norm and output head of a model. Raises ModelFileError."""
    empty = deepcopy(config)
    empty.num_hidden_layers = 1
    for field in PER_LAYER:
        if values := getattr(empty, field, None):
            setattr(empty, field, values[:1])
    model = _skeleton(AutoModelForCausalLM, empty)
    embedding, norm, head = (
        model.get_input_embeddings(),
        model.get_decoder().norm,
        model.get_output_embeddings(),
    )
    _fill(embedding, weights, "embed_tokens.", dtype, place)
    _fill(norm, weights, "norm.", dtype, place)
    if config.tie_word_embeddings:
        head.weight = embedding.weight  # as it is: in another layout it would be held twice
    else:
        head = _own_head(head, weights, dtype, place)
    for part in (embedding, norm, head):
        _refuse_empty(part)
    trim()
    return Front(embedding.eval(), norm.eval(), head.eval(), embedding.weight.shape[0])


def _own_head(head: Any, weights: Weights, dtype: torch.dtype, place: torch.device) -> nn.Module:
    """An output head that is not tied to the embedding, in its fastest form. head: without values."""
    if head.bias is None and dtype == torch.float32 and place.type == "cpu" and reorders():
        rows = max(1, HEAD_BYTES // (head.in_features * dtype.itemsize))
        made = RowsLinear(weights.read_rows("lm_head.weight", rows, dtype, place))
        if made.rows == head.out_features:
            return made
        raise ModelFileError(
            f"{weights.folder}: lm_head. has {made.rows} rows, the configuration {head.out_features}"
        )
    _fill(head, weights, "lm_head.", dtype, place)
    holder = nn.ModuleDict({"head": head})
    fit_linears(holder)
    return holder["head"]


def _skeleton(factory: Any, config: Any) -> Any:
    """A model without memory for its weights."""
    with torch.device("meta"):
        return factory.from_config(config)


def _fill(module: nn.Module, weights: Weights, prefix: str, dtype: torch.dtype, place: torch.device) -> None:
    """Give a module of a skeleton its weights, and the buffers that its class computes."""
    found = dict(weights.read(prefix, dtype, place))
    try:
        module.load_state_dict(found, strict=True, assign=True)
    except RuntimeError as error:
        wrong = str(error).strip().splitlines()
        raise ModelFileError(f"{weights.folder}: {prefix}: {wrong[min(1, len(wrong) - 1)].strip()}") from None
    scale = getattr(module, "scalar_embed_scale", None)  # of Gemma's embeddings
    if scale is not None:
        module.register_buffer("embed_scale", torch.tensor(scale, device=place), persistent=False)


def _refuse_empty(module: nn.Module) -> None:
    """Raise ModelFileError when something of a skeleton has no values: texts would be wrong without an error."""
    for name, tensor in _tensors(module):
        if tensor.is_meta:
            raise ModelFileError(f"{type(module).__name__}: {name} cannot be loaded by parts")


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()
