"""Tiny models with random weights, one per accepted family, and a plain forward pass as the reference."""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    LlamaConfig,
    Qwen2Config,
    Qwen3Config,
)

from services.verifier.torch_target import TorchTarget
from shared.speculative.params import SamplingParams

VOCAB = 97
WINDOW = 7
SIZE: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.4,  # wide enough for every layer to matter
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
SLIDING = ["sliding_attention", "full_attention", "sliding_attention", "sliding_attention"]
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 1e4,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


def configs() -> dict[str, Any]:
    """Configurations of every accepted family, with the variants that concern attention."""
    return {
        "llama": LlamaConfig(**SIZE, tie_word_embeddings=True),
        "llama, one head a kv head, biased": LlamaConfig(
            **{**SIZE, "num_key_value_heads": 4}, attention_bias=True
        ),
        "llama, scaled rope": LlamaConfig(**SIZE, rope_parameters=LLAMA3_ROPE),
        "qwen2": Qwen2Config(**SIZE),
        "qwen2, sliding": Qwen2Config(
            **SIZE, use_sliding_window=True, sliding_window=WINDOW, max_window_layers=2
        ),
        "qwen3": Qwen3Config(**SIZE, head_dim=16),
        "qwen3, sliding": Qwen3Config(
            **SIZE, head_dim=16, use_sliding_window=True, sliding_window=WINDOW, layer_types=SLIDING
        ),
        "gemma2": Gemma2Config(
            **SIZE,
            head_dim=8,
            sliding_window=WINDOW,
            query_pre_attn_scalar=20,
            attn_logit_softcapping=3.0,
            final_logit_softcapping=5.0,
        ),
        "gemma3": Gemma3TextConfig(
            **SIZE, head_dim=16, sliding_window=WINDOW, query_pre_attn_scalar=20, layer_types=SLIDING
        ),
    }


def build(config: Any, seed: int = 0, dtype: torch.dtype = torch.float32) -> Any:
    """A model with random weights."""
    torch.manual_seed(seed)
    factory: Any = AutoModelForCausalLM
    own = deepcopy(config)  # a model's attention implementation is a field of its configuration
    return factory.from_config(own, dtype=dtype, attn_implementation="eager").eval()


def target(config: Any, **options: Any) -> TorchTarget:
    """A target of the same weights as build(config)."""
    options = {"kv_tokens": 512, "page_tokens": 4, **options}
    return TorchTarget(build(config), vocabulary="tiny", vocab=VOCAB, **options)


@torch.inference_mode()
def plain_logits(model: Any, ids: Sequence[int]) -> torch.Tensor:
    """Logits of transformers after every prefix of ids, without a cache. [tokens, V]"""
    logits: torch.Tensor = model(torch.tensor([list(ids)]), use_cache=False).logits[0].float()
    return logits


def greedy(seed: int = 0) -> SamplingParams:
    """Sampling parameters with temperature 0."""
    return SamplingParams(seed=seed, vocab=VOCAB)
