"""`outrider bench pipeline`: its options, its result file, and its picture."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.bench.pipeline import bench, tune
from cli.bench.pipeline.measure import measure, ratios, summary
from cli.bench.pipeline.options import cells, names, read_law
from cli.command.errors import CommandError
from cli.main import app
from simulator.pipeline.laws import LAWS
from simulator.pipeline.methods.registry import METHODS
from simulator.pipeline.run import run_method
from simulator.pipeline.tuned import FILE, read_tuned

LAW = {"beta_ms": [4.0, 8.0], "per_token_ms": [0.1, 0.2], "hop_ms": 1.0, "draft_ms": 2.0}


def run(*options: str) -> Any:
    return CliRunner().invoke(app, ["bench", "pipeline", *options])


def write_law(folder: Path, **changes: Any) -> Path:
    path = folder / "mine.json"
    path.write_text(json.dumps({**LAW, **changes}))
    return path


def test_lists_become_their_product() -> None:
    found = cells("edge,gpu", "2,4", "0.3,3", "0.6", "1,4")
    assert len(found) == 16
    assert {(cell.name, len(cell.law.stages), cell.law.hop_ms, cell.users) for cell in found} == {
        (law, stages, hop, users)
        for law in ("edge", "gpu")
        for stages in (2, 4)
        for hop in (0.3, 3.0)
        for users in (1, 4)
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("abc", "4", "1", "0.7", "1"), "--law: 'abc' is none of edge, cpu, gpu"),
        (("edge", "0", "1", "0.7", "1"), "--stages '0': give numbers from 1 to 64"),
        (("edge", "2.5", "1", "0.7", "1"), "--stages '2.5': give whole numbers"),
        (("edge", "4", "-1", "0.7", "1"), "--hop-ms '-1': give numbers from 0"),
        (("edge", "4", "nan", "0.7", "1"), "--hop-ms 'nan'"),
        (("edge", "4", "1", "0.3", "1"), "--p1 '0.3': give numbers from 0.31 to 0.99"),
        (("edge", "4", "1", "0.7", "x"), "--users 'x': give numbers, separated by commas"),
    ],
)
def test_a_wrong_list_is_named_with_what_it_may_be(options: tuple[str, ...], message: str) -> None:
    with pytest.raises(CommandError) as raised:
        cells(*options)
    assert message in str(raised.value)


def test_an_unknown_method_is_named() -> None:
    with pytest.raises(CommandError, match="'g' is none of a, b, c, c_star, d, e, e_best, f, h"):
        names("methods", "a,g", list(METHODS))


def test_a_law_file_brings_its_own_stages_and_hop(tmp_path: Path) -> None:
    (cell,) = cells(str(write_law(tmp_path)), "7", "3", "0.7", "1")
    assert (cell.name, len(cell.law.stages), cell.law.hop_ms) == ("mine", 2, 1.0)
    assert cell.law.stages[1].pass_ms(10) == 10.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"beta_ms": [1.0]}, "per_token_ms has 2 stages, beta_ms has 1"),
        ({"draft_ms": -1}, "draft_ms: Input should be greater than or equal to 0"),
        ({"hops": 1}, "hops: Extra inputs are not permitted"),
        ({"beta_ms": [0.0, 1.0]}, "above 0 for every stage"),
    ],
)
def test_a_wrong_law_file_is_refused_by_field(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CommandError) as raised:
        read_law(write_law(tmp_path, **changes))
    assert message in str(raised.value)


def test_a_law_file_must_be_there_and_json(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="No such file"):
        read_law(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(CommandError, match="no JSON"):
        read_law(tmp_path / "bad.json")


def test_the_result_has_every_cell_and_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    law, out = str(write_law(tmp_path)), tmp_path / "out.json"
    options = ("--law", law, "--methods", "a,c,f", "--tokens", "100", "--json", str(out))
    done = run(*options)
    assert done.exit_code == 0, done.output
    result = json.loads(out.read_text())
    assert (result["schema"], len(result["cells"])) == (1, 1)
    cell = result["cells"][0]
    assert (cell["mode"], cell["law"], cell["stages"], cell["users"]) == ("simulated", "mine", 2, 1)
    assert (cell["beta_ms"], cell["per_token_ms"]) == ([4.0, 8.0], [0.1, 0.2])
    assert set(cell["methods"]) == {"a", "c", "f"}
    for method in cell["methods"].values():
        low, high = method["ci95"]
        assert 0 < low <= method["tokens_per_s"] <= high
        assert 0 <= method["idle"] < 1
        assert method["messages_per_token"] > 0
        assert method["bytes_per_token"] > 0
    rates = {name: method["tokens_per_s"] for name, method in cell["methods"].items()}
    assert cell["ratios"] == {"f/c": pytest.approx(rates["f"] / rates["c"])}
    assert cell["methods"]["c"]["settings"]["rows"] == 80

    measured: list[Any] = []

    def pretend(cell: Any, *_: Any) -> dict[str, Any]:
        measured.append(cell)
        return {**result["cells"][0], "p1": cell.p1}

    monkeypatch.setattr(bench, "measure", pretend)
    assert run(*options, "--p1", "0.75,0.6").exit_code == 0
    assert [cell.p1 for cell in measured] == [0.6]
    assert [cell["p1"] for cell in json.loads(out.read_text())["cells"]] == [0.75, 0.6]


def test_ctrl_c_keeps_the_cells_that_are_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out.json"

    def stop_at_second(cell: Any, *others: Any) -> Any:
        if cell.p1 == 0.6:
            raise KeyboardInterrupt
        return measure(cell, *others)

    monkeypatch.setattr(bench, "measure", stop_at_second)
    law = str(write_law(tmp_path))
    done = run("--law", law, "--p1", "0.75,0.6", "--methods", "a", "--tokens", "100", "--json", str(out))
    assert done.exit_code == 130
    assert [cell["p1"] for cell in json.loads(out.read_text())["cells"]] == [0.75]


def test_live_cells_stand_beside_the_simulated_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pretend(mode: str) -> Any:
        return lambda cell, *others: {**measure(cell, *others), "mode": mode}

    monkeypatch.setattr(bench, "measuring", pretend)
    out = tmp_path / "out.json"
    options = ("--live", "--law", str(write_law(tmp_path)), "--methods", "a", "--json", str(out))
    done = run(*options)
    assert done.exit_code == 0, done.output
    assert "live mine 2" in done.output
    result = json.loads(out.read_text())
    assert result["config"]["tokens"] == 100
    assert "hardware" in result
    assert [cell["mode"] for cell in result["cells"]] == ["simulated", "live"]


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    law, picture = str(write_law(tmp_path)), tmp_path / "p.png"
    where = ("--json", str(tmp_path / "p.json"), "--picture", str(picture))
    done = run("--law", law, "--methods", "a,f", "--tokens", "100", *where)
    assert done.exit_code == 0, done.output
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_intervals_are_around_the_rate_and_ratios_need_both_methods() -> None:
    method = METHODS["f"].make(LAWS["gpu"](2, 0.3), 0.75, 1)
    found = summary([run_method(method, LAWS["gpu"](2, 0.3), 0.75, 1, 200, seed) for seed in (1, 2, 3)])
    assert found["ci95"][0] < found["tokens_per_s"] < found["ci95"][1]
    assert ratios({"f": found, "c": found}) == {"f/c": 1.0}
    assert ratios({"c": found}) == {}


def test_tuned_settings_are_written_as_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    searched: list[Any] = []

    def settings(name: str, law: Any, p1: float, users: int) -> dict[str, Any]:
        searched.append((name, p1, users))
        place = {"law": name, "stages": len(law.stages), "hop_ms": law.hop_ms, "p1": p1, "users": users}
        return place | {"b": [3, 2, 1, 1, 1], "c_star": [16, 5, 10, 1, 1]}

    monkeypatch.setattr(tune, "as_cell", settings)
    out = tmp_path / "tuned.json"
    tune.main("gpu", "2", "0.3", "0.6", "2", out)
    assert searched == [("gpu", 0.6, 1), ("gpu", 0.75, 2)]
    found = read_tuned(out)
    assert found[LAWS["gpu"](2, 0.3), 0.6, 1, "c_star"].rows == 16


def test_the_committed_settings_can_be_read() -> None:
    assert all(method in ("b", "c_star") for _, _, _, method in read_tuned(FILE))
