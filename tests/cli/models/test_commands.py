"""`outrider models` as a command line."""

import errno
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.models import fetch, stamp, store
from cli.models.commands import app

run = CliRunner().invoke


@pytest.fixture
def mine() -> store.Folder:
    folder = store.folder("mine")
    folder.target.mkdir(parents=True)
    (folder.target / "config.json").write_text("{}")
    folder.draft.write_bytes(b"GGUF")
    stamp.write(folder, "target", "by hand", {}, own=True)
    stamp.write(folder, "draft.gguf", "by hand", {}, own=True)
    return folder


def test_list_names_what_is_here_and_what_is_not(mine: store.Folder) -> None:
    done = run(app, ["list"])
    assert done.exit_code == 0
    assert "mine" in done.output
    assert "ready" in done.output
    assert "1.6 GB to" in done.output


def test_list_tells_damage(mine: store.Folder) -> None:
    mine.draft.write_bytes(b"GGUF!")
    assert "damaged" in run(app, ["list"]).output


def test_verify(mine: store.Folder) -> None:
    assert run(app, ["verify"]).exit_code == 0
    expected = store.sha256(mine.draft)
    mine.draft.write_bytes(b"GGUX")
    done = run(app, ["verify", "mine"])
    assert done.exit_code == 1
    assert f"expected sha256 {expected}, found {store.sha256(mine.draft)}" in done.output


def test_verify_without_models() -> None:
    done = run(app, ["verify"])
    assert done.exit_code == 1
    assert "outrider models fetch smollm2" in done.output


def test_rm_asks(mine: store.Folder) -> None:
    assert run(app, ["rm", "mine"], input="n\n").exit_code == 1
    assert mine.path.exists()
    assert run(app, ["rm", "mine", "--yes"]).exit_code == 0
    assert not mine.path.exists()
    assert "no such model" in run(app, ["rm", "mine", "--yes"]).output


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["fetch", "gpt-9"], 1, "gpt-9: no such model; known models: smollm2"),
        (["fetch", "smollm2", "--sources", "ftp"], 1, "no such source 'ftp'"),
        (["add", "x", "--target", ".", "--dtype", "int8"], 1, "--dtype int8"),
        (["add", "x", "--target", "/nowhere"], 2, "'/nowhere' does not exist"),
        (["requantize", "mine", "Q2_K"], 1, "source.gguf: missing"),
        (["compare-drafts", "mine"], 1, "source.gguf: missing"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], code: int, text: str) -> None:
    done = run(app, arguments)
    assert done.exit_code == code
    assert text in done.output
    assert "Traceback" not in done.output


@pytest.mark.model
def test_requantize_makes_a_smaller_file(models_dir: Path) -> None:
    folder = store.folder("tiny")
    folder.path.mkdir(parents=True)
    folder.source.symlink_to(models_dir / "source.gguf")
    stamp.write(folder, "source.gguf", "linked", {}, own=True)
    done = run(app, ["requantize", "tiny", "q4_0", "--pure"])
    assert done.exit_code == 0, done.output
    assert folder.draft.stat().st_size < folder.source.stat().st_size
    assert stamp.check(folder, "draft.gguf").recipe.endswith("to Q4_0 pure")
    done = run(app, ["requantize", "tiny", "Q17"])
    assert "Q17: no such quantisation; llama.cpp has " in done.output


def test_a_disk_that_is_full_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    done = run(app, ["fetch", "smollm2"])
    assert (done.exit_code, "needed, 1 kB free" in done.output) == (1, True)


def test_and_so_is_one_that_fills_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "model.gguf.partial")

    monkeypatch.setattr(fetch, "fetch", full)
    done = run(app, ["fetch", "smollm2"])
    assert done.exit_code == 1
    assert "outrider models: model.gguf.partial: No space left on device" in done.output
    assert "Traceback" not in done.output
