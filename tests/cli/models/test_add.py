"""Adding the user's own models, and values of `--target`."""

from pathlib import Path

import pytest

from cli.command.errors import HashMismatch, ModelError
from cli.command.report import Report
from cli.models import add, hub, stamp, store
from cli.models.resolve import resolve


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "My-Model"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (folder / name).write_text(name)
    return folder


@pytest.fixture
def draft(tmp_path: Path) -> Path:
    path = tmp_path / "draft-Q4.gguf"
    path.write_bytes(b"GGUF and so on")
    return path


def test_local_files_are_linked(target: Path, draft: Path, report: Report) -> None:
    folder = add.add_local("mine", target, draft, "float32", report)
    assert folder.draft.resolve() == draft
    assert (folder.target / "config.json").resolve() == target / "config.json"
    assert resolve("mine") == (folder.target, folder.draft, "mine")
    with pytest.raises(ModelError, match="mine exists already"):
        add.add_local("mine", target, draft, "float32", report)


def test_a_file_that_changed_later_is_found(target: Path, draft: Path, report: Report) -> None:
    add.add_local("mine", target, draft, "float32", report)
    draft.write_bytes(b"GGUF and so forth")
    with pytest.raises(HashMismatch, match=r"draft\.gguf: expected sha256"):
        resolve("mine")


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json", "model.safetensors"])
def test_what_a_target_lacks_is_named(target: Path, draft: Path, report: Report, missing: str) -> None:
    (target / missing).unlink()
    with pytest.raises(ModelError, match=missing.rpartition(".")[2]):
        add.add_local("mine", target, draft, "float32", report)
    assert not store.folder("mine").path.exists()


def test_a_folder_needs_a_draft(target: Path, report: Report) -> None:
    with pytest.raises(ModelError, match="--draft"):
        add.add_local("mine", target, None, "float32", report)


def test_other_files_are_refused(target: Path, tmp_path: Path, report: Report) -> None:
    other = tmp_path / "draft.gguf"
    other.write_bytes(b"PK\x03\x04")
    with pytest.raises(ModelError, match=r"draft\.gguf: not a GGUF file"):
        add.add_local("mine", target, other, "float32", report)
    with pytest.raises(ModelError, match=r"none\.gguf: no such file"):
        add.add_local("mine", target, tmp_path / "none.gguf", "float32", report)


def test_resolve_takes_a_folder_with_a_draft(target: Path, draft: Path) -> None:
    assert resolve(str(target), str(draft)) == (target, draft, "My-Model")
    with pytest.raises(ModelError, match="--draft"):
        resolve(str(target))


def test_resolve_says_how_to_get_what_is_missing(cache: Path) -> None:
    with pytest.raises(
        ModelError, match=f"smollm2: not in {cache}/models; run `outrider models fetch smollm2`"
    ):
        resolve("smollm2")


def test_resolve_takes_another_draft(target: Path, draft: Path, tmp_path: Path, report: Report) -> None:
    add.add_local("mine", target, draft, "float32", report)
    other = tmp_path / "other.gguf"
    other.write_bytes(b"GGUF other")
    assert resolve("mine", str(other))[1] == other


def test_a_hub_name_needs_a_draft() -> None:
    with pytest.raises(ModelError, match="org/model: needs --draft"):
        resolve("org/model")


def test_hub_model(target: Path, draft: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def snapshot(repo: str, into: Path) -> None:
        assert repo == "org/model"
        target.rename(into)

    monkeypatch.setattr(hub, "snapshot", snapshot)
    folder, file, name = resolve("org/model", str(draft))
    assert (name, file) == ("org--model", draft)
    assert stamp.read(store.folder("org--model"))["target"].recipe == "hub org/model"
    assert resolve("org/model")[0] == folder
