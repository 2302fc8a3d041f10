"""Fixtures every test may use."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def models_dir() -> Path:
    """Folder of the demo model: source.gguf, draft.gguf, target/. Fails, never skips, when it is missing."""
    cache = Path(os.environ.get("OUTRIDER_CACHE", "~/.cache/outrider")).expanduser()
    folder = cache / "models" / "smollm2"
    if not (folder / "target" / "model.safetensors").is_file():
        pytest.fail(f"{folder}: demo model missing; run `make models` first")
    return folder
