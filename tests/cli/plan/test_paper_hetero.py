"""`outrider paper hetero`: tables, points as JSON and a picture, on few small points."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from cli.plan import paper_hetero
from shared.planning.latency.paper_cell import PAIRS, Setting


def test_a_point_has_all_methods_and_ours_is_the_earliest() -> None:
    each = paper_hetero.point(Setting(bits_per_token=1e4), 1, users=12)
    assert set(each.latency_ms) == set(paper_hetero.METHODS)
    assert min(each.latency_ms.values()) == pytest.approx(each.latency_ms[paper_hetero.OURS])
    assert each.reduction("uniform bandwidth") > 0
    assert 0 < each.upload_share < 1


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def few(setting: Setting) -> dict[str, list[paper_hetero.Job]]:
        jobs = [(setting, PAIRS[0], 6), (setting, PAIRS[0], 9)]
        return dict.fromkeys(("pairs", "bits", "drafters", "users"), jobs)

    monkeypatch.setattr(paper_hetero, "sweeps", few)
    done = CliRunner().invoke(
        app, ["paper", "hetero", "--out", str(tmp_path), "--draws", "1", "--bits-per-token", "500"]
    )
    assert done.exit_code == 0, done.stderr
    results = json.loads((tmp_path / "hetero.json").read_text())
    assert results["settings"]["bits_per_token"] == 500
    assert [each["users"] for each in results["pairs"]] == [6, 9]
    assert set(results["pairs"][0]["reduction_percent"]) == set(paper_hetero.METHODS) - {paper_hetero.OURS}
    assert (tmp_path / "hetero.png").stat().st_size > 10_000
    assert "44.9" in done.stdout


def test_all_points_of_the_tables() -> None:
    sweeps = paper_hetero.sweeps(Setting())
    assert {(pair, users) for _, pair, users in sweeps["pairs"]} >= {(pair, 90) for pair in PAIRS}
    assert len(sweeps["bits"]) == len(paper_hetero.C1_SCALES) * len(paper_hetero.BITS)
    assert len(sweeps["drafters"]) == len(paper_hetero.C2_SCALES) * len(paper_hetero.DRAFTER_SCALES)
