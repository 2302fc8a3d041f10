"""A folder's weights: read by prefix, as the library reads them, told apart by their digest, refused by name."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from services.verifier import weights
from services.verifier.weights import SAMPLE, STORED, ModelFileError, Weights


def read(folder: Path, prefix: str, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    return dict(Weights(folder).read(prefix, dtype, torch.device("cpu")))


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
    assert {name: tensor.tolist() for name, tensor in read(folder, "layers.1.").items()} == {"a": [2.0, 2.0]}
    assert list(read(folder, "layers.")) == ["0.a", "1.a", "10.a"]
    assert list(read(folder, "lm_head.")) == ["weight"]
    assert not read(folder, "norm.")


@pytest.mark.parametrize("stored", STORED.values(), ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_values_are_those_of_the_library_and_of_the_type_asked_for(
    stored: torch.dtype, dtype: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "PIECE_BYTES", 64)
    torch.manual_seed(0)
    tensors = {
        "matrix": torch.randn(7, 33).to(stored),
        "scalar": torch.tensor(3.5).to(stored),
        "nothing": torch.empty(0, 4).to(stored),
    }
    save_file(tensors, tmp_path / "a.safetensors", metadata={"format": "pt"})
    found = read(tmp_path, "", dtype)
    assert found.keys() == tensors.keys()
    for name, tensor in load_file(tmp_path / "a.safetensors").items():
        assert found[name].dtype == dtype
        assert torch.equal(found[name], tensor.to(dtype))


def test_a_type_without_a_meaning_here_is_refused_by_name(tmp_path: Path) -> None:
    save_file({"codes": torch.zeros(3, dtype=torch.int64)}, tmp_path / "a.safetensors")
    with pytest.raises(ModelFileError, match="codes is of type I64; known are F64"):
        read(tmp_path, "")


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
        read(folder, "layers.")
