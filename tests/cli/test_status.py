"""`outrider status`: values that it computes from the gateway's responses."""

from io import StringIO
from pathlib import Path

from rich.console import Console

from cli.status import devices, given_up
from shared.runtime.stack_state import claim, write_state
from tests.shared.runtime.test_stack_state import state


def test_devices_that_were_given_up_are_shown_with_the_reason(tmp_path: Path) -> None:
    assert given_up(None).plain == given_up(tmp_path).plain == ""
    lock = claim(tmp_path)
    write_state(tmp_path, state(given_up={"draft-worker-0": "draft-worker-0 ended with code 4: superseded"}))
    assert given_up(tmp_path).plain == "given up: draft-worker-0 ended with code 4: superseded"
    lock.release()
    assert given_up(tmp_path).plain == ""


def test_shares_of_a_cell_are_shown_where_there_are_some() -> None:
    row = {
        "generation": 1,
        "load": 0,
        "capacity": 8,
        "draft_us_per_token": 8000,
        "rtt_us": 900,
        "detail": "m",
    }
    rows = [{"name": "near", "cell": "c1", **row}, {"name": "far", "cell": "", **row}]
    console = Console(width=120, record=True, file=StringIO())
    console.print(devices(rows, {"near": {"bits_s": 51_200, "exceeded": 3}}))
    text = console.export_text()
    assert "share kbit/s" in text
    (line,) = [line for line in text.splitlines() if "near" in line]
    assert [cell.strip() for cell in line.split("│")[6:9]] == ["c1", "51.2", "3"]
    console.print(devices(rows, {}))
    assert "share" not in console.export_text()
