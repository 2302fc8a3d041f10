"""How a benchmark that is run as a module ends."""

import pytest

from cli.command.bench_main import bench_main
from cli.command.errors import CommandError


@pytest.mark.parametrize(
    ("raised", "code", "line"),
    [
        (None, 0, ""),
        (CommandError("no room"), 1, "outrider: no room\n"),
        (KeyboardInterrupt(), 130, ""),
        (
            ZeroDivisionError("x"),
            1,
            "outrider: unexpected ZeroDivisionError: x (OUTRIDER_DEBUG=1 shows the traceback)\n",
        ),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(
    raised: BaseException | None, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def run() -> None:
        if raised:
            raise raised

    with pytest.raises(SystemExit) as end:
        bench_main(run)
    assert end.value.code == code
    assert capsys.readouterr().err == line
