"""The emulated devices' recordings."""

import json
from pathlib import Path

import pytest

from services.draft_worker.fleet import read_recordings


def test_recordings_are_read(tmp_path: Path) -> None:
    file = tmp_path / "r.json"
    file.write_text(json.dumps({"texts": [[1, 2, 3], [4]], "vocabulary": "h", "vocab": 9}))
    found = read_recordings(file)
    assert found.texts == ((1, 2, 3), (4,))
    assert (found.of((1, 2)), found.of((4,)), found.of((2,))) == (0, 1, None)


def test_a_file_without_them_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "r.json"
    file.write_text("{}")
    with pytest.raises(KeyError):
        read_recordings(file)
