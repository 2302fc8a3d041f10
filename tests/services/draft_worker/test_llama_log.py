"""llama.cpp's log: one callback for the whole process, which outlives everything that llama.cpp may tell it."""

import gc
import re
from pathlib import Path

import llama_cpp as llama
import pytest

from cli.command.errors import ModelError
from cli.models.manifest import DraftRecipe
from cli.models.requantize import requantize
from services.draft_worker.llama_log import keep_errors, reason

ROOT = Path(__file__).parents[3]


def load(path: Path) -> None:
    assert not llama.llama_model_load_from_file(str(path).encode(), llama.llama_model_default_params())


def test_the_first_error_is_the_reason_and_each_is_forwarded(tmp_path: Path) -> None:
    lines: list[str] = []
    keep_errors(lines.append)
    assert reason() == "llama.cpp gives no reason"
    load(tmp_path / "none.gguf")
    assert "none.gguf" in reason()
    assert lines[0] == reason()
    keep_errors()
    assert reason() == "llama.cpp gives no reason"


def test_llama_cpp_may_log_after_its_caller_is_gone(tmp_path: Path) -> None:
    """A callback that died with the function that had set it was called by the next model: a segmentation fault."""
    source = tmp_path / "source.gguf"
    source.write_bytes(b"no model" * 100)
    with pytest.raises(
        ModelError, match=r"source\.gguf: llama\.cpp could not requantise it to Q4_0: .*magic"
    ):
        requantize(source, tmp_path / "draft.gguf", DraftRecipe("source.gguf", "Q4_0"))
    gc.collect()
    load(source)
    assert "magic" in reason()


def test_nobody_else_sets_a_callback() -> None:
    callers = {
        str(path.relative_to(ROOT))
        for folder in ("cli", "loadgen", "services", "shared", "scripts", "tests")
        for path in (ROOT / folder).rglob("*.py")
        if re.search(r"llama_log_set\(", path.read_text(encoding="utf-8"))
    }
    assert callers == {"services/draft_worker/llama_log.py"}
