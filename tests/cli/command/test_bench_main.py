"""Benchmarks as commands: options, errors and exit codes."""

import sys

import pytest

from cli.command.bench_main import bench_main
from cli.command.cli_errors import unexpected
from cli.command.errors import CommandError


@pytest.mark.parametrize(
    ("raised", "code", "line"),
    [
        (None, 0, ""),
        (CommandError("no room"), 1, "outrider: no room\n"),
        (KeyboardInterrupt(), 130, ""),
        (ZeroDivisionError("x"), 1, f"outrider: {unexpected(ZeroDivisionError('x'))}\n"),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(
    raised: BaseException | None,
    code: int,
    line: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = []

    def measure(repeats: int = 2) -> None:
        """Measure."""
        given.append(repeats)
        if raised:
            raise raised

    monkeypatch.setattr(sys, "argv", ["bench", "--repeats", "3"])
    with pytest.raises(SystemExit) as end:
        bench_main(measure)
    assert (end.value.code, given) == (code, [3])
    assert capsys.readouterr().err == line
