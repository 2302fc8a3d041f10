"""Fixtures for the tests of a device: the demo model without its quantisation."""

import ctypes
from pathlib import Path

import llama_cpp as llama
import pytest


@pytest.fixture(scope="session")
def float16(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model with float16 weights."""
    path = tmp_path_factory.mktemp("float16") / "f16.gguf"
    params = llama.llama_model_quantize_default_params()
    params.ftype, params.allow_requantize, params.nthread = llama.LLAMA_FTYPE_MOSTLY_F16, True, 2
    source = str(models_dir / "source.gguf").encode()
    assert llama.llama_model_quantize(source, str(path).encode(), ctypes.byref(params)) == 0
    return path
