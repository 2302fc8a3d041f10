"""Result files of benchmarks: the command, and what is resumed."""

import json
import sys
from pathlib import Path

import pytest

from loadgen.measuring.result import command, interrupted, write_measurement

CONFIG = {"threads": 2, "shapes": (1, 4)}


def test_a_result_is_resumed_by_the_same_configuration_alone(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "result.json"
    write_measurement(path, "packed", CONFIG, {"models": {"a": [1.0]}})
    assert interrupted(path, "packed", CONFIG)["models"] == {"a": [1.0]}
    assert interrupted(path, "packed", {**CONFIG, "threads": 4}) == {}
    assert interrupted(path, "other", CONFIG) == {}
    document = json.loads(path.read_text())
    assert document["command"] == command()
    path.write_text(json.dumps({**document, "hardware": {"cpu": "another"}}))
    assert interrupted(path, "packed", CONFIG) == {}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"kind": "packed"}'])
def test_a_file_of_something_else_is_not_resumed(text: str, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text(text)
    assert interrupted(path, "packed", CONFIG) == {}
    assert interrupted(tmp_path / "none", "packed", CONFIG) == {}


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (
            ["/venv/bin/python3", "-m", "cli.bench.pair", "--out", "a b"],
            "python3 -m cli.bench.pair --out 'a b'",
        ),
        (["/venv/bin/python3", "/venv/bin/outrider", "demo"], "outrider demo"),
    ],
)
def test_the_command_names_no_folder_of_the_machine(
    argv: list[str], line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "orig_argv", argv)
    assert command() == line
