"""Every error of a command is one line on stderr, never a traceback or silence."""

import errno
import io
import sys

import pytest
import typer

from cli.command.cli_errors import DEBUG, cli_errors, run_app, unexpected
from cli.command.errors import CommandError
from shared.runtime.settings import SettingsError


def ended(error: BaseException, *besides: type[Exception]) -> int:
    """Exit code of a command that raises this error."""
    with pytest.raises(typer.Exit) as raised, cli_errors(*besides):
        raise error
    return int(raised.value.exit_code)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (CommandError("give --url"), "give --url"),
        (TimeoutError(), "no answer in time"),
        (SettingsError("OUTRIDER_K: no"), "OUTRIDER_K: no"),
        (ExceptionGroup("tasks", [CommandError("give --url")]), "give --url"),
        (
            PermissionError(errno.EACCES, "Permission denied", ".outrider/up.json"),
            ".outrider/up.json: Permission denied",
        ),
    ],
)
def test_an_expected_error_is_one_line(
    error: Exception, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(error) == 1
    assert capsys.readouterr().err == f"outrider: {line}\n"


def test_ctrl_c_says_nothing() -> None:
    assert ended(KeyboardInterrupt()) == 130


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("x\ny"), "unexpected ValueError: x y (OUTRIDER_DEBUG=1 shows the traceback)"),
        (RuntimeError(), "unexpected RuntimeError (OUTRIDER_DEBUG=1 shows the traceback)"),
        (
            ExceptionGroup("g", [KeyError("k")]),
            "unexpected KeyError: 'k' (OUTRIDER_DEBUG=1 shows the traceback)",
        ),
        (
            ModuleNotFoundError("No module named 'scipy'", name="scipy"),
            "scipy is needed but not installed; `pip install 'outrider[all]'` installs everything",
        ),
    ],
)
def test_an_unexpected_error_is_one_line_that_says_how_to_see_more(
    error: Exception, line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def app() -> None:
        with cli_errors():
            raise error

    monkeypatch.setenv(DEBUG, "0")
    assert unexpected(error if not isinstance(error, ExceptionGroup) else error.exceptions[0]) == line
    with pytest.raises(SystemExit) as raised:
        run_app("outrider", app)
    assert raised.value.code == 1
    assert capsys.readouterr().err == f"outrider: {line}\n"
    monkeypatch.setenv(DEBUG, "1")
    with pytest.raises(type(error)):
        run_app("outrider", app)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_what_a_terminal_cannot_show_becomes_a_question_mark(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding, write_through=True))
    run_app("outrider", lambda: print("τ 2.10 日本"))
    assert raw.getvalue() == b"? 2.10 ??\n"
