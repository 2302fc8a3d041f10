"""The `outrider` command: every option of every command is checked, and errors name the option."""

import inspect
import os
import re
import subprocess
import sys
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from cli.command.cli_errors import run_app
from cli.main import app

BAD_GATEWAYS = ("notaurl", "127.0.0.1:8000", "ftp://h", "http://", "http://h:70000", "http://a b")
BAD_BROKERS = ("notaurl", "http://h", "redis://", "redis://h:70000", "redis://h/zero")


@dataclass(frozen=True)
class Parameter:
    """An option or argument of a command."""

    command: tuple[str, ...]
    flag: str  # "" = an argument
    kind: type
    info: Any

    @property
    def label(self) -> str:
        return " ".join((*self.command, self.flag or "ARGUMENT"))


def commands(
    group: typer.Typer, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Callable[..., Any]]]:
    for info in group.registered_commands:
        assert info.callback
        yield (*path, info.name or info.callback.__name__.replace("_", "-")), info.callback
    for sub in group.registered_groups:
        assert sub.typer_instance
        assert sub.name
        yield from commands(sub.typer_instance, (*path, sub.name))


def parameters() -> Iterator[Parameter]:
    for path, callback in commands(app):
        hints = typing.get_type_hints(callback, include_extras=True)
        for name in inspect.signature(callback).parameters:
            annotated, info = typing.get_args(hints[name])
            plain = [kind for kind in typing.get_args(annotated) or (annotated,) if kind is not type(None)]
            flags = getattr(info, "param_decls", None) or (f"--{name.replace('_', '-')}",)
            is_option = isinstance(info, typer.models.OptionInfo)
            yield Parameter(path, flags[0] if is_option else "", plain[0], info)


ALL = list(parameters())


def of(*kinds: type) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("one", [p for p in ALL if p.kind in kinds], ids=lambda p: p.label)


def said(*arguments: str, **env: str) -> str:
    """Text of a usage error as one line, without the box around it."""
    done = CliRunner().invoke(app, list(arguments), env=env)
    assert done.exit_code == 2, done.output
    return re.sub(r"[\s│]+", " ", done.output)


def test_the_commands_are_found() -> None:
    some = {("chat",), ("up",), ("devices", "add"), ("models", "fetch"), ("bench", "policies")}
    assert some <= {p.command for p in ALL}
    assert len(ALL) > 70


@of(int, float)
def test_every_number_has_both_bounds_and_keeps_to_them(one: Parameter) -> None:
    assert one.info.min is not None
    assert one.info.max is not None
    bad = ["x", str(one.info.min - 1), str(one.info.max + 1), "1e400"]
    for value in [*bad, "nan", "inf"] if one.kind is float else bad:
        assert f"'{one.flag}'" in said(*one.command, f"{one.flag}={value}")


@of(Path)
def test_every_path_is_a_file_or_a_folder_and_what_is_not_is_named(one: Parameter, tmp_path: Path) -> None:
    if one.command == ("models", "add") and one.flag == "--target":
        wrong = tmp_path / "nothing"  # a folder or a file, but there
    else:
        assert one.info.file_okay != one.info.dir_okay
        wrong = tmp_path / "file"
        wrong.touch()
        wrong = tmp_path if one.info.file_okay else wrong
    message = said(*one.command, one.flag, str(wrong)) if one.flag else said(*one.command, str(wrong))
    assert (one.flag or "scenarios") in message


@pytest.mark.parametrize("one", [p for p in ALL if p.flag == "--out"], ids=lambda p: p.label)
def test_every_result_is_known_to_be_writable_before_anything_is_measured(
    one: Parameter, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    assert "'--out'" in said(*one.command, "--out", str(tmp_path / "file" / "out"))


@pytest.mark.parametrize("value", BAD_GATEWAYS)
@pytest.mark.parametrize("command", ["chat", "status", "policy"])
def test_an_address_that_is_no_gateway_is_named(command: str, value: str) -> None:
    message = said(command, "--url", value)
    assert "'--url'" in message
    assert "as in http://127.0.0.1:8000" in message


@pytest.mark.parametrize("value", BAD_BROKERS)
@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (("devices", "add", "x", "--url"), "--url"),
        (("devices", "add", "x", "--broker"), "--broker"),
        (("devices", "remove", "x", "--broker"), "--broker"),
        (("join", "--name", "x"), "url"),
    ],
)
def test_an_address_that_is_no_broker_is_named(arguments: tuple[str, ...], name: str, value: str) -> None:
    message = said(*arguments, value)
    assert f"'{name}'" in message
    assert "as in redis://127.0.0.1:6379/0" in message


def test_every_option_that_takes_an_address_is_among_those_tried() -> None:
    """A new option must be added to the cases above."""
    found = {
        p.label for p in ALL if p.kind is str and re.search("url|broker", p.flag + p.info.__class__.__name__)
    }
    named = {f"{c} --url" for c in ("chat", "status", "policy")}
    assert found == named | {"devices add --url", "devices add --broker", "devices remove --broker"}


def test_an_address_from_the_environment_is_checked_too() -> None:
    assert "OUTRIDER_JOIN_URL" in said("devices", "add", "x", OUTRIDER_JOIN_URL="notaurl")


def test_a_gateway_that_is_not_there_is_one_line_on_a_terminal_of_ascii(tmp_path: Path) -> None:
    env = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
        "PYTHONIOENCODING": "ascii",
    }
    command = [sys.executable, "-m", "cli.main", "chat", "hi", "--url", "http://127.0.0.1:1/v1"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr == b"outrider: no answer from http://127.0.0.1:1: Connection refused\n"


@pytest.mark.parametrize("arguments", [("status",), ("chat", "hi"), ("policy",)], ids=" ".join)
@pytest.mark.parametrize("state", ["[]", "{}", "3", "null", "\xff", '{"pid": 1, "url": 3}'])
def test_a_state_file_that_holds_something_else_is_no_traceback(
    state: str, arguments: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "up.json").write_bytes(state.encode("latin-1"))
    with pytest.raises(SystemExit) as raised:
        run_app("outrider", partial(app, [*arguments, "--state", str(tmp_path)]))
    assert raised.value.code == 1
    assert re.fullmatch(r"outrider: [^\n]{10,}\n", capsys.readouterr().err)
