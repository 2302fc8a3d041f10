"""A cell's history: sums, series and fairness of what its members had, in bounded space."""

import pytest

from loadgen.metrics.cell_history import MAX_STEPS, CellHistory
from shared.cells.cell import Cell
from shared.cells.sharing import Sharing


def cell(sharing: Sharing, duplex: bool = False) -> Cell:
    made = Cell(8000.0, sharing, duplex)
    for name, eta in (("a", 1.0), ("b", 0.5)):
        made.join(name, eta, 0.0)
    return made


def test_bytes_and_shares_by_step() -> None:
    made = cell("contention")
    made.send("a", "down", 8000, 0.0)  # before the history begins
    history = CellHistory(made, 1.0)
    made.send("a", "up", 4000, 1.0)
    made.send("b", "down", 6000, 2.0)
    for at in (1.5, 2.0, 3.0, 3.5):
        history.look(at)
    history.look(4.0, last=True)
    body = history.body()
    assert body["at_s"] == [1.0, 2.0, 3.0]
    assert body["series"]["a"]["bytes"] == pytest.approx([500, 0, 0])
    assert body["series"]["b"]["bytes"] == pytest.approx([0, 500, 250])
    assert body["series"]["b"]["share"] == pytest.approx([0, 1, 0.5])
    assert body["series"]["b"]["given"] == [None] * 3
    assert body["devices"] == [
        {"device": "a", "up_bytes": 500, "down_bytes": 0, "share": pytest.approx(0.5 / 3, abs=1e-6)},
        {"device": "b", "up_bytes": 0, "down_bytes": 750, "share": pytest.approx(0.5)},
    ]
    assert body["jain_bytes"] == pytest.approx(1250**2 / (2 * (500**2 + 750**2)))
    assert body["jain_share"] == pytest.approx(2**2 / (2 * (0.5**2 + 1.5**2)))


def test_given_shares_are_those_at_the_end_of_a_step() -> None:
    made = cell("shares", duplex=True)
    made.give({"a": 6000.0, "b": 2000.0}, 0.0)
    history = CellHistory(made, 0.0)
    history.look(1.0)
    made.give({"a": 4000.0, "b": 4000.0}, 1.5)
    made.send("a", "up", 4000, 1.5)
    history.look(2.5)
    series = history.body()["series"]["a"]
    assert series["given"] == [0.75, 0.5]
    assert series["share"] == pytest.approx(
        [0, 0.5 * 1.0 / (2 * 1.5)], abs=1e-6
    )  # half a band of two, for 1 s of 1.5


def test_a_long_history_has_longer_steps_and_the_same_sums() -> None:
    made = cell("equal")
    history = CellHistory(made, 0.0)
    for n in range(3 * MAX_STEPS):
        made.send("a", "up", 800, float(n))
        history.look(n + 1.0)
    body = history.body()
    assert len(body["at_s"]) <= MAX_STEPS
    assert len(body["series"]["a"]["bytes"]) == len(body["series"]["a"]["given"]) == len(body["at_s"])
    assert sum(body["series"]["a"]["bytes"]) == pytest.approx(body["devices"][0]["up_bytes"])


def test_without_time_or_bytes_there_is_no_fairness() -> None:
    body = CellHistory(cell("equal"), 3.0).body()
    assert body["seconds"] == 0
    assert body["jain_bytes"] != body["jain_bytes"]  # nan, which a result file has as null
