"""Options of the command line are checked before anything starts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from cli.command.options import checked_broker, checked_gateway, checked_key, checked_text, writable


def test_what_is_right_is_taken(tmp_path: Path) -> None:
    assert checked_gateway("http://h:8000/v1/") == "http://h:8000"
    assert checked_broker("redis://h:6379/0") == "redis://h:6379/0"
    assert checked_key(" sk-1 \n") == "sk-1"
    assert checked_text("日本") == "日本"
    assert writable(tmp_path / "a" / "b.json") == tmp_path / "a" / "b.json"
    assert (checked_gateway(""), checked_broker(""), checked_key("")) == ("", "", "")


def test_what_is_wrong_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cases: tuple[tuple[Callable[[Any], Any], Any, str], ...] = (
        (checked_gateway, "notaurl", "begin with http://"),
        (checked_broker, "notaurl", "begin with redis://"),
        (checked_key, "a\r\nX: y", "one line"),
        (checked_text, "caf\udce9", "UTF-8"),
        (writable, tmp_path / "file" / "out.json", "is a file, not a folder"),
    )
    for check, value, words in cases:
        with pytest.raises(typer.BadParameter, match=words):
            check(value)


def test_a_folder_that_cannot_be_written_to_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[Path] = []

    def access(path: Path, _: int) -> bool:
        checked.append(path)
        return False

    monkeypatch.setattr("cli.command.options.os.access", access)
    with pytest.raises(typer.BadParameter, match="is not writable"):
        writable(tmp_path / "new" / "out.json")
    assert checked == [tmp_path]
