"""Unsupported models are refused at load, with the reason."""

from typing import Any

import pytest
from transformers import (
    Gemma2Config,
    Gemma3Config,
    Gemma3nTextConfig,
    Gemma3TextConfig,
    GptOssConfig,
    LlamaConfig,
    MistralConfig,
    Qwen3Config,
    Qwen3MoeConfig,
    T5Config,
)

from services.verifier.families import UnsupportedModel, shape_of
from tests.services.verifier.tiny import SIZE, SLIDING, WINDOW, configs


@pytest.mark.parametrize("name", configs())
def test_accepted(name: str) -> None:
    assert shape_of(configs()[name]).layers == 4


def test_windows_follow_the_layer_types() -> None:
    assert shape_of(configs()["gemma3"]).windows == (WINDOW, None, WINDOW, WINDOW)
    assert shape_of(configs()["gemma2"]).windows == (WINDOW, None, WINDOW, None)
    assert shape_of(configs()["qwen2, sliding"]).windows == (None, None, WINDOW, WINDOW)
    assert shape_of(configs()["qwen3"]).windows == (None,) * 4


def test_kv_bytes() -> None:
    shape = shape_of(configs()["qwen3"])
    assert (shape.heads, shape.kv_heads, shape.head_dim, shape.positions) == (4, 2, 16, 256)
    assert shape.kv_bytes(2) == 2 * 4 * 2 * 16 * 2


LONG = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "short_factor": [1.0] * 4,
    "long_factor": [2.0] * 4,
    "factor": 2.0,
}


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (
            LlamaConfig(**SIZE, rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}),
            "'dynamic'.*who else",
        ),
        (LlamaConfig(**SIZE, rope_parameters=LONG), "'longrope'.*who else"),
        (
            Gemma3TextConfig(**SIZE, head_dim=16, use_bidirectional_attention=True, sliding_window=8),
            "looks ahead",
        ),
        (Gemma3Config(), "images"),
        (Gemma3nTextConfig(), "gemma3n_text"),
        (Gemma2Config(**SIZE, sliding_window=None), "without a window"),
        (MistralConfig(**SIZE), "'mistral' is not handled; those handled are Llama, Qwen2"),
        (GptOssConfig(), "mixture of experts"),
        (Qwen3MoeConfig(), "mixture of experts"),
        (T5Config(), "encoder-decoder"),
        (Qwen3Config(**(SIZE | {"quantization_config": {"quant_method": "awq"}})), "quantised by awq"),
    ],
)
def test_refused(config: Any, reason: str) -> None:
    with pytest.raises(UnsupportedModel, match=reason):
        shape_of(config)


def test_the_refusal_names_the_model() -> None:
    config = MistralConfig(**SIZE)
    config._name_or_path = "somebody/some-model"
    with pytest.raises(UnsupportedModel, match=r"^somebody/some-model: "):
        shape_of(config)


def test_layers_that_share_kv_are_refused() -> None:
    config = configs()["llama"]
    config.num_kv_shared_layers = 2
    with pytest.raises(UnsupportedModel, match="share"):
        shape_of(config)


def test_other_layer_types_are_refused() -> None:
    config = configs()["gemma3"]
    config.layer_types = ["chunked_attention", *SLIDING[1:]]
    with pytest.raises(UnsupportedModel, match="'chunked_attention'"):
        shape_of(config)
