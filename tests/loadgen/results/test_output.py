"""Where results go: refused before a run when they cannot be written, kept elsewhere when they cannot any more."""

import errno
import json
import os
from pathlib import Path

import pytest

from loadgen.results.output import OutputError, check_output, keep, replacing
from loadgen.results.result_file import write_result

FULL = OSError(errno.ENOSPC, "No space left on device")


def test_a_folder_is_made_and_nothing_is_left_in_it(tmp_path: Path) -> None:
    check_output(tmp_path / "a" / "b" / "load.json", (".requests.jsonl",))
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_what_is_there_stays_until_there_is_a_new_result(tmp_path: Path) -> None:
    out = tmp_path / "load.json"
    out.write_text("old")
    check_output(out)
    assert out.read_text() == "old"


@pytest.mark.parametrize("name", ["folder", "folder/", "."])
def test_a_folder_is_no_file(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match=r"is a folder: name a file, for example .*load\.json"):
        check_output(Path(name), (".requests.jsonl",))


def test_neither_is_one_below_a_file_nor_a_pipe_nor_too_long_a_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file is no folder"):
        check_output(tmp_path / "file" / "load.json")
    with pytest.raises(OutputError, match="Not a directory; name a file"):
        check_output(tmp_path / "file" / "a" / "load.json")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match="is no file"):
        check_output(tmp_path / "pipe")
    (tmp_path / "load.requests.jsonl").mkdir()
    with pytest.raises(OutputError, match=r"load\.requests\.jsonl is there and is no file"):
        check_output(tmp_path / "load.json", (".requests.jsonl",))
    with pytest.raises(OutputError, match="name too long"):
        check_output(tmp_path / ("x" * 252))


def test_a_full_disk_is_found_by_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise FULL

    monkeypatch.setattr("loadgen.results.output.os.fsync", full)
    with pytest.raises(OutputError, match="No space left on device; name a file in a folder with room"):
        check_output(tmp_path / "load.json")
    assert list(tmp_path.iterdir()) == []


def write_half(path: Path) -> None:
    with replacing(path) as file:
        file.write("half")
        raise FULL


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    out = tmp_path / "rows"
    out.write_text("old")
    with pytest.raises(OSError, match="No space"):
        write_half(out)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"rows": "old"}
    with replacing(out) as file:
        file.write("new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"rows": "new"}


def test_text_that_is_no_unicode_is_no_reason_to_lose_a_result(tmp_path: Path) -> None:
    write_result(tmp_path / "load.json", "load", {"label": "\udcff"}, {"faults": {"\ud800": 1}})
    found = json.loads((tmp_path / "load.json").read_text(encoding="utf-8"))
    assert (found["config"]["label"], found["faults"]) == ("\udcff", {"\ud800": 1})


def test_a_result_that_cannot_be_written_is_kept_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (temporary := tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))

    def write(path: Path) -> None:
        if path.parent == tmp_path:
            raise FULL
        path.write_text("result")

    kept = keep(tmp_path / "load.json", write)
    assert (kept.name, kept.read_text(), kept.parent.parent) == ("load.json", "result", temporary)
    assert keep(kept, write) == kept


def test_shared_memory_is_asked_last_and_then_the_loss_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (memory := tmp_path / "memory").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    monkeypatch.setattr("loadgen.results.output.SHARED_MEMORY", str(memory))

    def write(path: Path) -> None:
        if path.parent == tmp_path or not room:
            raise FULL
        path.write_text("result")

    room = True
    assert keep(tmp_path / "load.json", write).parent.parent == memory
    room = False
    with pytest.raises(OutputError, match=r"load\.json: No space left on device; nowhere else either"):
        keep(tmp_path / "load.json", write)
    assert len(list(memory.iterdir())) == 1  # nothing is left of what failed
