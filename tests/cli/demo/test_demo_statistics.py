"""Rows of the demo, and the table they are shown in."""

from io import StringIO
from math import nan

import pytest
from rich.console import Console

from cli.demo.demo_run import DemoRun, same
from cli.demo.emulated_devices import demo_scenario
from cli.demo.reference import Text
from cli.demo.statistics import rows
from cli.demo.table import HEADINGS, meaning, show
from loadgen.request import ChatRequest, Chunk, Record

EXPECTED = {"user-1": Text((1,), (5, 6, 7))}


def records(*tokens: int) -> list[Record]:
    record = Record(ChatRequest("user-1", "m", "Why?", 3), 0.0, 0.0)
    record.chunks = [Chunk(0.1, "so ", tokens, 0)]
    return [record]


def runs() -> dict[str, list[DemoRun]]:
    return {
        "greedy-batch": [DemoRun(50.0, same=True), DemoRun(100.0, same=True)],
        "fixed-k k=2": [
            DemoRun(100.0, 0.8, 2.4, 10_300.0, 400.0, True),
            DemoRun(400.0, nan, 2.6, 10_500.0, 600.0, True),
        ],
        "generate": [DemoRun(25.0), DemoRun(25.0)],
    }


def test_figures_are_medians_and_speed_is_compared_within_each_repeat() -> None:
    found = rows(runs(), ("greedy-batch", "generate"))
    row = found["fixed-k k=2"]
    assert row["tokens_per_s"] == 250.0
    assert row["over"]["greedy-batch"]["value"] == pytest.approx((2 * 4) ** 0.5)
    assert row["over"]["generate"]["value"] == pytest.approx((4 * 16) ** 0.5)
    assert (row["alpha"], row["tau"], row["ttft_ms_p50"], row["tpot_ms_p50"]) == (0.8, 2.5, 10_400.0, 500.0)
    assert found["greedy-batch"]["alpha"] is None


def test_one_wrong_text_of_any_repeat_is_the_row_s() -> None:
    repeats = runs()
    repeats["fixed-k k=2"].append(DemoRun(100.0, same=False))
    identical = {name: row["identical_to_reference"] for name, row in rows(repeats, ()).items()}
    assert identical == {"greedy-batch": True, "fixed-k k=2": False, "generate": None}


@pytest.mark.parametrize("said", [(5, 6), (5, 6, 8), (5, 6, 7, 8)])
def test_a_text_is_the_reference_s_whole_or_it_is_not(said: tuple[int, ...]) -> None:
    assert same(records(5, 6, 7), EXPECTED)
    assert not same([*records(5, 6, 7), *records(*said)], EXPECTED)


def test_the_table_is_whole_in_eighty_columns_and_says_what_its_halves_mean() -> None:
    out = StringIO()
    local = rows({**runs(), "autoregressive": [DemoRun(1.0), DemoRun(1.0)]}, ("greedy-batch",))
    emulated = rows(runs(), ("greedy-batch", "generate"))
    emulated["greedy-batch"]["identical_to_reference"] = False
    scenario = demo_scenario(8)
    show(Console(file=out, width=80), records(5), local, emulated, scenario)
    text = out.getvalue()
    assert "…" not in text
    lines = [line.split() for line in text.splitlines()]
    assert ["here", "greedy-batch", "75.0", "1.00", "–", "–", "–", "–", "–", "yes"] in lines
    assert ["fixed-k", "k=2", "250.0", "2.83", "8.00", "0.80", "2.50", "10400", "500.0", "yes"] in lines
    assert ["emulated", "greedy-batch", "75.0", "1.00", "2.83", "–", "–", "–", "–", "NO"] in lines
    assert ["generate", "25.0", "0.35", "1.00", "–", "–", "–", "–", "–"] in lines
    assert {word for heading in HEADINGS for word in heading.split()} <= set(text.split())
    assert " ".join(meaning(scenario).split()) in " ".join(text.split())


def test_the_sentence_has_the_devices_figures() -> None:
    said = meaning(demo_scenario(8))
    assert "8..16 ms a token, α 0.7..0.9, link 2..10 ms each way" in said
    assert said.count(". ") == 0  # one sentence
