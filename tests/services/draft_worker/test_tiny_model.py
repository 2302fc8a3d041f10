"""The tiny model: a right GGUF file with every quantisation that drafts come in, in shapes of the fastest kernels."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader
from gguf.quants import dequantize

from services.draft_worker.tiny_model import TENSORS, tiny_model

ROWS = 32  # AMX works on two tiles of 16


@pytest.fixture(scope="module")
def tensors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("tiny") / "tiny.gguf"
    path.write_bytes(tiny_model())
    return {tensor.name: tensor for tensor in GGUFReader(path).tensors}


def test_every_matrix_has_its_type_and_a_shape_for_wide_kernels(tensors: dict[str, Any]) -> None:
    for name, kind in TENSORS.items():
        tensor = tensors[f"{name}.weight"]
        assert tensor.tensor_type.name == kind
        width, rows = map(int, tensor.shape)
        assert (width % 256, rows % ROWS) == (0, 0)


def test_all_weights_are_small_and_differ(tensors: dict[str, Any]) -> None:
    for name in TENSORS:
        tensor = tensors[f"{name}.weight"]
        weights = dequantize(tensor.data, tensor.tensor_type)
        assert weights.size == 256 * weights.shape[0]
        assert np.isfinite(weights).all()
        assert 0.01 < np.std(weights) < 1, name
        assert abs(weights).max() < 4, name


def test_it_has_what_amx_kernels_exist_for() -> None:
    assert {"Q4_0", "Q4_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS"} <= set(TENSORS.values())


def test_it_is_the_same_every_time() -> None:
    assert tiny_model() == tiny_model()


@pytest.mark.model
@pytest.mark.parametrize("file", ["source.gguf", "draft.gguf"])
def test_it_has_every_type_of_the_demo_model(models_dir: Path, file: str) -> None:
    types = {tensor.tensor_type.name for tensor in GGUFReader(models_dir / file).tensors}
    assert types <= set(TENSORS.values()) | {"F32"}
