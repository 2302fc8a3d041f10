"""Scenario files: what they come to, and what bad ones get."""

from pathlib import Path

import pytest

from shared.scenario.quantity import Quantity, parse
from shared.scenario.scenario import ScenarioError, read_scenario

FOLDER = Path(__file__).resolve().parents[3] / "scenarios"
GOOD = """
about: a test
devices: [{count: 3, alpha: 0.5..0.9, draft: 2 verify, link: {delay: 3..80 ms, jitter: 1 s}}]
policies: [outrider, {policy: fixed-k, k: 2}]
"""


@pytest.mark.parametrize("name", ["churn", "heterogeneous", "jittery", "paper-m14-a78", "thousand"])
def test_scenarios_of_the_race_are_read(name: str) -> None:
    scenario = read_scenario(FOLDER / f"{name}.yaml")
    assert scenario.about
    assert {"autoregressive", "dip-sd", "outrider"} <= {config.policy for config in scenario.policies}


def test_the_paper_s_shares() -> None:
    device = read_scenario(FOLDER / "paper-m14-a78.yaml").fleet(verify_ms=95.682852)[0]
    assert device.alpha == 0.78
    assert device.draft_ms == pytest.approx(33.914511, rel=2e-3)
    assert 2 * device.delay_ms == pytest.approx(3.0, rel=0.02)


def test_ranges_are_drawn_from_the_seed(tmp_path: Path) -> None:
    fleet = written(tmp_path, GOOD).fleet(verify_ms=10.0)
    assert fleet == written(tmp_path, GOOD).fleet(verify_ms=10.0)
    assert fleet != written(tmp_path, GOOD + "seed: 2\n").fleet(verify_ms=10.0)
    assert len({device.alpha for device in fleet}) == 3
    for device in fleet:
        assert 0.5 <= device.alpha <= 0.9
        assert device.draft_ms == 20.0
        assert 3 <= device.delay_ms <= 80
        assert device.jitter_ms == 1000.0


@pytest.mark.parametrize(
    ("text", "quantity"),
    [
        (0.5, Quantity(0.5, 0.5)),
        ("3..80 ms", Quantity(3, 80, "ms")),
        ("0.354 verify", Quantity(0.354, 0.354, "verify")),
    ],
)
def test_quantities(text: object, quantity: Quantity) -> None:
    assert parse(text) == quantity
    assert parse(str(quantity)) == quantity


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("2 verify", "2", "devices.0.draft: a time needs a unit"),
        ("2 verify", "2 hours", "devices.0.draft: a time needs a unit"),
        ("2 verify", "-2 ms", "devices.0.draft: a number or a range"),
        ("0.5..0.9", "0.9..0.5", "devices.0.alpha: the range 0.9..0.5 is descending"),
        ("0.5..0.9", "1", "devices.0.alpha: a probability in [0, 1)"),
        ("0.5..0.9", ".nan", "devices.0.alpha: a number or a range"),
        ("count: 3", "count: 0", "devices.0.count"),
        ("count", "cuont", "devices.0.cuont"),
        ("outrider", "outridder", "no such policy; known are autoregressive"),
        (
            "about: a test",
            "workload: {stay: 3 s}",
            "about: it is missing; workload: stay and away go together",
        ),
        ("about: a test", "about: [", "not YAML"),
    ],
)
def test_bad_files_name_the_field(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(ScenarioError, match=r"scenario\.yaml: ") as error:
        written(tmp_path, GOOD.replace(old, new))
    assert message in str(error.value)


def written(folder: Path, text: str):  # type: ignore[no-untyped-def]
    path = folder / "scenario.yaml"
    path.write_text(text)
    return read_scenario(path)


def test_links_may_have_a_bandwidth_and_lose_messages(tmp_path: Path) -> None:
    """Drawn apart from the rest, so that older scenarios keep their devices."""
    text = (
        "about: x\nseed: 4\ndevices: [{count: 5, alpha: 0.5..0.9, draft: 5..20 ms, link: {delay: 3..80 ms%s}}]\n"
        "policies: [outrider]\n"
    )
    plain, wide = tmp_path / "plain.yaml", tmp_path / "wide.yaml"
    plain.write_text(text % "")
    wide.write_text(text % ", bandwidth: 500..2000 kbit, loss: 0.01..0.05")
    before, after = (read_scenario(path).fleet(40.0) for path in (plain, wide))
    assert [(d.alpha, d.draft_ms, d.delay_ms) for d in before] == [
        (d.alpha, d.draft_ms, d.delay_ms) for d in after
    ]
    assert {(d.kbit_s, d.loss) for d in before} == {(0.0, 0.0)}
    assert all(500 <= d.kbit_s <= 2000 and 0.01 <= d.loss <= 0.05 for d in after)
    wide.write_text(text % ", bandwidth: 3 ms")
    with pytest.raises(ScenarioError, match=r"bandwidth.*kbit"):
        read_scenario(wide)
