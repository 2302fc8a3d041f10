"""Tables: formatted fields, and empty cells where there is nothing."""

from io import StringIO
from typing import Any

from rich.console import Console

from loadgen.measuring.table import interval, table

COLUMNS = {"": "{name}", "tok/s": "{rate:.1f}", "× a b": interval("over[a b]")}


def test_fields_are_formatted_and_what_is_missing_is_empty() -> None:
    rows: list[dict[str, Any]] = [
        {"name": "x", "rate": 2.04, "over": {"a b": [1.0, 0.5, 2.0]}},
        {"name": "y", "over": {"a b": None}},
    ]
    out = StringIO()
    Console(file=out, width=80).print(table(rows, COLUMNS))
    lines = [line.split() for line in out.getvalue().splitlines()]
    assert lines == [["tok/s", "×", "a", "b"], ["x", "2.0", "1.00", "(0.50", "to", "2.00)"], ["y"]]


def test_a_titled_table_has_a_frame() -> None:
    out = StringIO()
    Console(file=out, width=80).print(table([{"name": "x"}], COLUMNS, title="the title"))
    assert "the title" in out.getvalue()
    assert "┃" in out.getvalue()
