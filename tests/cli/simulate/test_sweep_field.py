"""Swept fields: what is understood, what is set, and what is refused."""

from typing import Any

import pytest

from cli.command.errors import CommandError
from cli.simulate.sweep_field import parse_sweep, with_value

DATA: dict[str, Any] = {
    "devices": [{"count": 2, "link": {"delay": "1 ms"}}, {"count": 3}],
    "load": {"rate": 1},
}


@pytest.mark.parametrize(
    ("text", "path", "values"),
    [
        ("load.rate=1,2.5,4", "load.rate", [1, 2.5, 4]),
        ("devices.0.link.delay=5 ms, 20 ms", "devices.0.link.delay", ["5 ms", "20 ms"]),
        ("policy=fixed-k:3,outrider", "policy", ["fixed-k:3", "outrider"]),
        (
            "load.goodput='ttft:500 tpot:50','ttft:500, tpot:90'",
            "load.goodput",
            ["ttft:500 tpot:50", "ttft:500, tpot:90"],
        ),
        ("devices.0.alpha=0.5..0.7,0.9", "devices.0.alpha", ["0.5..0.7", 0.9]),
    ],
)
def test_values_are_those_of_yaml(text: str, path: str, values: list[Any]) -> None:
    (field,) = parse_sweep([text])
    assert (field.path, list(field.values)) == (path, values)


@pytest.mark.parametrize(
    ("texts", "error"),
    [
        (["load.rate"], "give FIELD=VALUE"),
        (["=1,2"], "give FIELD=VALUE"),
        (["load.rate="], "load.rate: a value is missing"),
        (["load.rate=1,,2"], "load.rate: '1,,2' is not a list"),
        (["load.rate=1,[2"], "load.rate: '1,[2' is not a list"),
        (["load.rate=1,2,1"], "load.rate: 1 is given twice"),
        (["load.rate=1", "load.rate=2"], "load.rate: --sweep load.rate sets it already"),
        (
            ["devices.0.link.delay=1 ms", "devices.0.link={}"],
            "devices.0.link: --sweep devices.0.link.delay sets it",
        ),
    ],
)
def test_others_are_refused(texts: list[str], error: str) -> None:
    with pytest.raises(CommandError, match=r"^--sweep") as raised:
        parse_sweep(texts)
    assert error in str(raised.value)


def test_a_field_is_set_and_the_original_is_kept() -> None:
    changed = with_value(DATA, "devices.0.link.delay", "9 ms")
    assert changed["devices"][0]["link"]["delay"] == "9 ms"
    assert DATA["devices"][0]["link"]["delay"] == "1 ms"


def test_a_star_sets_every_element_and_defaults_are_filled_in() -> None:
    changed = with_value(DATA, "devices.*.link.jitter", "3 ms")
    assert [group["link"].get("jitter") for group in changed["devices"]] == ["3 ms", "3 ms"]
    assert with_value(DATA, "core.verifiers", 2)["core"] == {"verifiers": 2}


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("devices.2.alpha", "devices has the elements 0 to 1"),
        ("devices.first.alpha", "devices has the elements 0 to 1"),
        ("load.rate.low", "load.rate has no fields"),
    ],
)
def test_a_path_that_leads_nowhere_is_refused(path: str, error: str) -> None:
    with pytest.raises(CommandError, match=error):
        with_value(DATA, path, 1)
