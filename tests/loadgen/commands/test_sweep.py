"""`loadgen sweep`: its outputs are checked before the first run."""

from pathlib import Path

import pytest
import typer

from loadgen.commands import sweep as command
from loadgen.run.options import RunOptions
from loadgen.run.sweep import Sweep, SweepPolicy

SWEEP = Sweep([1.0], True, [SweepPolicy()], 1)


@pytest.mark.parametrize(
    ("name", "is_folder", "why"),
    [
        ("sweep.json", True, "sweep.json is a folder"),
        ("sweep", False, "sweep is not a folder"),  # here the results of the runs go
    ],
)
async def test_an_output_that_cannot_be_written_is_refused_before_the_sweep(
    name: str, is_folder: bool, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    in_the_way = tmp_path / name
    in_the_way.mkdir() if is_folder else in_the_way.touch()
    with pytest.raises(typer.Exit) as ended:
        await command._sweep(SWEEP, RunOptions(url="http://127.0.0.1:9"), tmp_path / "sweep.json", True)
    assert ended.value.exit_code == 2
    assert why in capsys.readouterr().err
