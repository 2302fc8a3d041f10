"""Live runs that are kept, and those that no longer count."""

from pathlib import Path

import pytest

from cli.command.errors import CommandError
from tests.cli.validate.cells import cell, repeat


def test_what_is_kept_is_read_again(tmp_path: Path) -> None:
    runs = [repeat(), repeat(round_ms=float("nan"))]
    cell().keep(tmp_path, runs)
    kept = cell().kept(tmp_path)
    assert kept[0] == runs[0]
    assert str(kept[1].metrics.round.p50) == "nan"
    assert cell(k=2).kept(tmp_path) == []


def test_runs_of_another_scenario_or_model_do_not_count(tmp_path: Path) -> None:
    cell().keep(tmp_path, [repeat()])
    assert cell(about="smollm2 bfloat16").kept(tmp_path) == []
    assert cell(seed=7).kept(tmp_path) == []
    assert len(cell(about="modelled", core={"hop": "3 ms"}).kept(tmp_path)) == 1  # of the simulation alone


def test_a_broken_file_names_itself(tmp_path: Path) -> None:
    file = cell().file(tmp_path)
    file.parent.mkdir(parents=True)
    file.write_text("{")
    with pytest.raises(CommandError, match=r"fixed-k-k=4\.json.*delete it"):
        cell().kept(tmp_path)


def test_a_run_is_steady_if_the_machine_was_as_fast_after_it() -> None:
    assert repeat(drift=-0.04).steady
    assert not repeat(drift=0.06).steady
