"""A folder's weights: read by prefix, told apart by their digest, refused by name."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from services.verifier.weights import SAMPLE, ModelFileError, Weights


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two files of weights, a configuration and a tokenizer."""
    made = tmp_path / "model"
    made.mkdir()
    save_file(
        {"model.layers.0.a": torch.ones(2), "model.layers.1.a": torch.full((2,), 2.0)}, made / "a.safetensors"
    )
    save_file(
        {"lm_head.weight": torch.arange(8192.0), "model.layers.10.a": torch.zeros(2)}, made / "b.safetensors"
    )
    (made / "config.json").write_text("{}")
    (made / "tokenizer.json").write_text("{}")
    return made


def test_tensors_are_read_by_prefix_from_all_files(folder: Path) -> None:
    weights = Weights(folder)
    assert {name: tensor.tolist() for name, tensor in weights.read("layers.1.")} == {"a": [2.0, 2.0]}
    assert [name for name, _ in weights.read("layers.")] == ["0.a", "1.a", "10.a"]
    assert [name for name, _ in weights.read("lm_head.")] == ["weight"]
    assert not list(weights.read("norm."))


def test_a_copy_has_the_same_digest(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    assert Weights(copy).digest() == Weights(folder).digest()


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_another_configuration_or_tokenizer_has_another_digest(folder: Path, name: str) -> None:
    before = Weights(folder).digest()
    (folder / name).write_text("{} ")
    assert Weights(folder).digest() != before
    (folder / name).unlink()
    assert Weights(folder).digest() != before


@pytest.mark.parametrize("at", [-1, -SAMPLE])
def test_other_values_have_another_digest(folder: Path, at: int) -> None:
    before = Weights(folder).digest()
    data = bytearray((folder / "b.safetensors").read_bytes())
    data[at] ^= 1
    (folder / "b.safetensors").write_bytes(data)
    assert Weights(folder).digest() != before


def test_a_folder_without_weights_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"no \.safetensors file"):
        Weights(tmp_path)


def test_a_corrupt_file_is_refused_by_name(folder: Path) -> None:
    (folder / "b.safetensors").write_bytes(b"\x00" * 100)
    with pytest.raises(ModelFileError, match=r"b\.safetensors: corrupt"):
        list(Weights(folder).read("layers."))
