"""Loading models from folders and files, and the errors for broken ones."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from services.verifier.families import UnsupportedModel
from services.verifier.loading import load_target, model_folder, random_target
from services.verifier.weights import ModelFileError
from shared.compute.target import TargetRow
from shared.protocol.vocabulary import Entry, Vocabulary
from shared.speculative.params import SamplingParams
from tests.services.verifier.tiny import VOCAB, build, configs, greedy, plain_logits

WORDS = Vocabulary.from_entries(Entry(i, bytes([i]), False) for i in range(VOCAB - 3))
KV: dict[str, Any] = {"kv_tokens": 64, "page_tokens": 4}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A saved tiny model without tokenizer."""
    build(configs()["qwen3"]).save_pretrained(tmp_path)
    return tmp_path


def test_a_folder(folder: Path) -> None:
    loaded = load_target(str(folder), device="cpu", vocabulary=WORDS, **KV)
    assert (loaded.vocab, loaded.vocabulary, loaded.max_context) == (VOCAB - 3, WORDS.hash, 256)
    assert loaded.admit("a", [1, 2, 3], ["a"], 3)
    sampling = SamplingParams(seed=0, vocab=VOCAB - 3)
    answer = loaded.forward([TargetRow("a", 0, (1, 2, 3), 3, True, sampling)])[0]
    expected = plain_logits(build(configs()["qwen3"]), [1, 2, 3])[-1, : VOCAB - 3]
    assert answer.tokens == (int(expected.argmax()),)


@pytest.mark.parametrize(("dtype", "got"), [("auto", torch.float32), ("bfloat16", torch.bfloat16)])
def test_dtypes(folder: Path, dtype: str, got: torch.dtype) -> None:
    loaded = load_target(str(folder), dtype=dtype, device="cpu", vocabulary=WORDS, **KV)
    assert loaded._store.keys.dtype == got


def test_no_tokenizer(folder: Path) -> None:
    with pytest.raises(ModelFileError, match=r"tokenizer\.json: no such file"):
        load_target(str(folder), device="cpu", **KV)


@pytest.mark.parametrize("source", ["/no/such/folder", "./none", "~/none.gguf", "/no/such.gguf"])
def test_nothing_there(source: str) -> None:
    with pytest.raises(ModelFileError, match=r"no such (file|folder)"):
        load_target(source, device="cpu", **KV)


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(
        ModelFileError, match=r"needs config\.json with safetensors, or one \.gguf file; has 0"
    ):
        load_target(str(tmp_path), device="cpu", **KV)


def test_a_configuration_without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelFileError, match=str(folder)):
        load_target(str(folder), device="cpu", vocabulary=WORDS, **KV)


def test_a_configuration_that_is_no_json(folder: Path) -> None:
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelFileError, match=str(folder)):
        load_target(str(folder), device="cpu", vocabulary=WORDS, **KV)


def test_cut_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ModelFileError, match=r"corrupt safetensors|safetensors"):
        load_target(str(folder), device="cpu", vocabulary=WORDS, **KV)


def test_weights_of_another_model_are_not_left_random(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 5, "layer_types": None}))
    with pytest.raises(ModelFileError, match=r"of another shape, first model\.layers\.4"):
        load_target(str(folder), device="cpu", vocabulary=WORDS, **KV)


def test_an_unsupported_model_is_refused_before_its_weights_are_read(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "ministral"}))
    (folder / "model.safetensors").unlink()
    with pytest.raises(UnsupportedModel, match="'ministral' is not handled"):
        load_target(str(folder), device="cpu", vocabulary=WORDS, **KV)


def test_a_file_that_is_no_gguf(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGML" * 100)
    with pytest.raises(ModelFileError, match=r"model\.gguf: transformers cannot convert it"):
        load_target(str(path), device="cpu", **KV)


@pytest.mark.model
@pytest.mark.slow
def test_a_gguf_file_is_dequantised_once(
    models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUTRIDER_CACHE", str(tmp_path))
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "m.gguf").symlink_to(models_dir / "source.gguf")
    folder = Path(model_folder(str(tmp_path / "own")))
    assert (folder / "tokenizer.json").is_file()
    written = (folder / "model.safetensors").stat().st_mtime_ns
    assert model_folder(str(tmp_path / "own" / "m.gguf")) == str(folder)
    assert (folder / "model.safetensors").stat().st_mtime_ns == written
    factory: object = AutoModelForCausalLM
    ours, theirs = (
        factory.from_pretrained(path).get_input_embeddings().weight  # type: ignore[attr-defined]  # untyped library
        for path in (folder, models_dir / "target")
    )
    assert torch.equal(ours, theirs)


def test_random_weights() -> None:
    model = random_target(configs()["llama"], dtype=torch.bfloat16, device="cpu", kv_tokens=64, page_tokens=4)
    assert model.admit("a", [1, 2], ["a"], 2)
    assert len(model.forward([TargetRow("a", 0, (1, 2), 2, True, greedy())])[0].tokens) == 1


@pytest.fixture
def only_what_a_bare_gpu_machine_has(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hides what the benchmark may not need."""
    for name in ("pydantic", "pydantic_settings", "msgpack", "redis", "structlog", "accelerate"):
        monkeypatch.setitem(sys.modules, name, None)
    kept = {name for name in sys.modules if not name.startswith(("services.", "shared."))}
    hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if name not in kept}
    yield
    for name in [name for name in sys.modules if name.startswith(("services.", "shared."))]:
        del sys.modules[name]
    sys.modules.update(hidden)


@pytest.mark.usefixtures("only_what_a_bare_gpu_machine_has")
def test_imports_need_only_torch_and_transformers() -> None:
    __import__("services.verifier.loading")
    assert "services.verifier.torch_target" in sys.modules
