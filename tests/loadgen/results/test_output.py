"""Results that cannot be written: refused before a run, written to another folder after it."""

import errno
import json
import os
from pathlib import Path

import pytest

from loadgen.results.output import OutputError, check_output, keep, replacing
from loadgen.results.result_file import write_result

FULL = OSError(errno.ENOSPC, "No space left on device")


def test_the_check_creates_the_folder_and_leaves_no_file(tmp_path: Path) -> None:
    check_output(tmp_path / "a" / "b" / "load.json", (".requests.jsonl",))
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_the_check_keeps_an_existing_result(tmp_path: Path) -> None:
    out = tmp_path / "load.json"
    out.write_text("old")
    check_output(out)
    assert out.read_text() == "old"


@pytest.mark.parametrize("name", ["folder", "folder/", "."])
def test_a_folder_is_refused(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match=r"is a folder: name a file, for example .*load\.json"):
        check_output(Path(name), (".requests.jsonl",))


def test_a_path_below_a_file_a_pipe_and_a_long_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file is not a folder"):
        check_output(tmp_path / "file" / "load.json")
    with pytest.raises(OutputError, match="Not a directory; name a file"):
        check_output(tmp_path / "file" / "a" / "load.json")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match="is not a file"):
        check_output(tmp_path / "pipe")
    (tmp_path / "load.requests.jsonl").mkdir()
    with pytest.raises(OutputError, match=r"load\.requests\.jsonl exists and is not a file"):
        check_output(tmp_path / "load.json", (".requests.jsonl",))
    with pytest.raises(OutputError, match="name too long"):
        check_output(tmp_path / ("x" * 252))


def test_the_check_finds_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise FULL

    monkeypatch.setattr("loadgen.results.output.os.fsync", full)
    with pytest.raises(
        OutputError, match="No space left on device; name a file in a writable folder with free space"
    ):
        check_output(tmp_path / "load.json")
    assert list(tmp_path.iterdir()) == []


def write_half(path: Path) -> None:
    with replacing(path) as file:
        file.write("half")
        raise FULL


def test_a_file_is_replaced_completely_or_not_at_all(tmp_path: Path) -> None:
    out = tmp_path / "rows"
    out.write_text("old")
    with pytest.raises(OSError, match="No space"):
        write_half(out)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"rows": "old"}
    with replacing(out) as file:
        file.write("new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"rows": "new"}


def test_half_a_surrogate_pair_is_written_as_an_escape(tmp_path: Path) -> None:
    write_result(tmp_path / "load.json", "load", {"label": "\udcff"}, {"faults": {"\ud800": 1}})
    found = json.loads((tmp_path / "load.json").read_text(encoding="utf-8"))
    assert (found["config"]["label"], found["faults"]) == ("\udcff", {"\ud800": 1})


def test_a_result_that_cannot_be_written_goes_to_a_temporary_folder(
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


def test_shared_memory_is_the_last_resort_before_an_error(
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
    with pytest.raises(
        OutputError, match=r"load\.json: No space left on device; temporary folders cannot be written either"
    ):
        keep(tmp_path / "load.json", write)
    assert len(list(memory.iterdir())) == 1  # nothing is left of what failed
