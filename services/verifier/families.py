"""Which models can be verified exactly, and their shapes for the KV cache.

Everything our packed attention does not handle is refused here, by name and with the reason, when the model
is loaded: a wrong window or a frequency that depends on the batch would change texts silently.
"""

from dataclasses import dataclass
from typing import Any, Final

FAMILIES: Final = {
    "llama": "Llama",
    "qwen2": "Qwen2",
    "qwen3": "Qwen3",
    "gemma2": "Gemma 2",
    "gemma3_text": "Gemma 3 (text)",
}
LAYER_TYPES: Final = frozenset({"full_attention", "sliding_attention"})
ROPE_TYPES: Final = frozenset({"default", "linear", "llama3", "yarn", "proportional"})
BATCH_ROPE: Final = frozenset({"dynamic", "longrope"})


class UnsupportedModel(ValueError):
    """A model that cannot be verified exactly; the text names it and the reason."""


@dataclass(frozen=True, slots=True)
class AttentionShape:
    """Attention of a model, layer by layer."""

    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    windows: tuple[
        int | None, ...
    ]  # positions a layer looks back over, itself included; None = all. [layers]
    final_softcap: float | None  # logits are softcap · tanh(logits / softcap)
    positions: int  # that the model was made for

    def kv_bytes(self, element_bytes: int) -> int:
        """Bytes of KV cache per token."""
        return 2 * self.layers * self.kv_heads * self.head_dim * element_bytes


def shape_of(config: Any) -> AttentionShape:
    """The shape of a model by its transformers configuration. Raises UnsupportedModel."""
    name = _name(config)
    for refusal in _refusals(config):
        raise UnsupportedModel(f"{name}: {refusal}")
    heads = config.num_attention_heads
    layer_types = getattr(config, "layer_types", None) or ["full_attention"] * config.num_hidden_layers
    return AttentionShape(
        layers=config.num_hidden_layers,
        heads=heads,
        kv_heads=getattr(config, "num_key_value_heads", None) or heads,
        head_dim=getattr(config, "head_dim", None) or config.hidden_size // heads,
        windows=tuple(config.sliding_window if kind == "sliding_attention" else None for kind in layer_types),
        final_softcap=getattr(config, "final_logit_softcapping", None),
        positions=config.max_position_embeddings,
    )


def _refusals(config: Any) -> list[str]:
    """Why the model is refused; empty when it is not."""
    kind = config.model_type
    if getattr(config, "is_encoder_decoder", False):
        return ["an encoder-decoder model; a target has to be a causal language model"]
    if any(
        getattr(config, field, None) for field in ("num_local_experts", "num_experts", "n_routed_experts")
    ):
        return [f"{kind} is a mixture of experts, which is not handled"]
    if kind == "gemma3":
        return ["gemma3 with images; load its text part (gemma3_text)"]
    if kind not in FAMILIES:
        return [f"model type {kind!r} is not handled; those handled are {', '.join(FAMILIES.values())}"]
    return [reason for reason in (_attention(config), _rope(config), _weights(config)) if reason]


def _attention(config: Any) -> str | None:
    if getattr(config, "use_bidirectional_attention", False):
        return "attention that looks ahead cannot be cached"
    if getattr(config, "num_kv_shared_layers", 0):
        return "layers that share one another's KV are not handled"
    if getattr(config, "attention_chunk_size", None):
        return "chunked attention is not handled"
    others = set(getattr(config, "layer_types", None) or ()) - LAYER_TYPES
    if others:
        return f"layer type {sorted(others)[0]!r} is not handled"
    if "sliding_attention" in (getattr(config, "layer_types", None) or ()) and not config.sliding_window:
        return "sliding layers without a window"
    return None


def _rope(config: Any) -> str | None:
    """Dynamic and long rope take their frequencies from the largest position of the whole packed batch."""
    rope = getattr(config, "rope_parameters", None) or {}
    per_layer_type = rope.values() if all(isinstance(value, dict) for value in rope.values()) else [rope]
    for parameters in per_layer_type:
        rope_type = (parameters or {}).get("rope_type", "default")
        if rope_type in BATCH_ROPE:
            return f"rope type {rope_type!r}: a row's frequencies would depend on who else is in its batch"
        if rope_type not in ROPE_TYPES:
            return f"rope type {rope_type!r} is not handled"
    return None


def _weights(config: Any) -> str | None:
    quantization = getattr(config, "quantization_config", None)
    if quantization is None:
        return None
    method = quantization.get("quant_method") if isinstance(quantization, dict) else quantization.quant_method
    return f"weights quantised by {getattr(method, 'value', method)}; give the model in float32 or bfloat16"


def _name(config: Any) -> str:
    return (
        getattr(config, "_name_or_path", "")
        or (getattr(config, "architectures", None) or [config.model_type])[0]
    )
