"""The parts of a model equal the whole, for every family; what is missing is named."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from services.verifier.stages import parts
from services.verifier.stages.parts import block_config, load_block, load_front
from services.verifier.weights import ModelFileError, Weights
from tests.services.verifier.stages.rings import CPU, saved
from tests.services.verifier.tiny import VOCAB, build, configs

NAMES = sorted(configs())


@torch.inference_mode()
@pytest.mark.parametrize("name", NAMES)
def test_what_rank_0_keeps_equals_the_whole_model(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configs()[name]
    monkeypatch.setattr(parts, "HEAD_BYTES", 40 * 4 * config.hidden_size)  # three blocks of rows
    whole = build(config)
    front = load_front(saved(config, tmp_path), config, torch.float32, CPU)
    ids = torch.arange(VOCAB)
    embedded = whole.get_input_embeddings()(ids)
    torch.testing.assert_close(front.embedding(ids), embedded)  # Gemma scales it
    normed = whole.get_decoder().norm(embedded)
    torch.testing.assert_close(front.norm(embedded), normed)
    torch.testing.assert_close(
        front.head(normed), whole.get_output_embeddings()(normed), atol=1e-5, rtol=1e-5
    )
    assert front.rows == VOCAB


@torch.inference_mode()
@pytest.mark.parametrize("name", NAMES)
def test_the_layers_of_the_stages_equal_those_of_the_whole_model(name: str, tmp_path: Path) -> None:
    config = configs()[name]
    whole = build(config)
    weights = saved(config, tmp_path)
    for first, count in ((0, 1), (1, 3)):
        block = load_block(weights, config, first, count, torch.float32, CPU)
        assert len(block.layers) == count
        for index, layer in enumerate(block.layers):
            theirs = whole.get_decoder().layers[first + index]
            probe = torch.randn(5, config.hidden_size)
            torch.testing.assert_close(layer.input_layernorm(probe), theirs.input_layernorm(probe))
            torch.testing.assert_close(layer.mlp(probe), theirs.mlp(probe), atol=1e-4, rtol=1e-4)
            for part in ("q_proj", "k_proj", "v_proj"):
                ours = getattr(layer.self_attn, part)(probe)
                torch.testing.assert_close(ours, getattr(theirs.self_attn, part)(probe), atol=1e-4, rtol=1e-4)
            assert layer.self_attn.layer_idx == index  # KV is counted from 0 in every stage


@pytest.mark.parametrize("name", [name for name in NAMES if getattr(configs()[name], "layer_types", None)])
def test_windows_are_those_of_the_layers_own_numbers(name: str) -> None:
    config = configs()[name]
    assert block_config(config, 1, 2).layer_types == config.layer_types[1:3]
    assert len(config.layer_types) == 4  # the whole model's is left alone


def without(weights: Weights, name: str, **added: Any) -> Weights:
    """The same folder without a tensor."""
    (file,) = weights.folder.glob("*.safetensors")
    tensors = {key: tensor for key, tensor in load_file(file).items() if not key.endswith(name)}
    save_file({**tensors, **added}, file)
    return Weights(weights.folder)


def test_a_missing_weight_is_named(tmp_path: Path) -> None:
    config = configs()["llama"]
    weights = without(saved(config, tmp_path), "layers.2.mlp.up_proj.weight")
    load_block(weights, config, 0, 2, torch.float32, CPU)
    with pytest.raises(ModelFileError, match=r"layers\.2\..*mlp\.up_proj\.weight"):
        load_block(weights, config, 1, 2, torch.float32, CPU)
    with pytest.raises(ModelFileError, match="norm"):
        load_front(without(weights, "model.norm.weight"), config, torch.float32, CPU)


def test_a_weight_of_another_shape_is_refused(tmp_path: Path) -> None:
    config = configs()["llama"]
    name = "model.layers.0.mlp.up_proj.weight"
    weights = without(saved(config, tmp_path), name, **{name: torch.zeros(3, 3)})
    with pytest.raises(ModelFileError, match=r"layers\.0\..*up_proj"):
        load_block(weights, config, 0, 1, torch.float32, CPU)
