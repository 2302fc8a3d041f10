"""Tables of result rows."""

from collections.abc import Iterable, Mapping
from typing import Any

from rich import box
from rich.table import Table


def table(
    rows: Iterable[Mapping[str, Any]],
    columns: Mapping[str, str],
    title: str | None = None,
    caption: str | None = None,
) -> Table:
    """A table for the console.

    columns: format of a row's fields by heading, for example "{tokens_per_s:.1f}". A cell is empty where a field is
    missing or None. The first column is aligned left, the others right.
    """
    rendered = Table(title=title, caption=caption, box=box.HEAVY_HEAD if title else None)
    for number, heading in enumerate(columns):
        rendered.add_column(heading, justify="right" if number else "left")
    for row in rows:
        rendered.add_row(*(_cell(cell, row) for cell in columns.values()))
    return rendered


def interval(field: str) -> str:
    """Format of a field [value, low, high]."""
    return f"{{{field}[0]:.2f}} ({{{field}[1]:.2f}} to {{{field}[2]:.2f}})"


def _cell(cell: str, row: Mapping[str, Any]) -> str:
    try:
        return cell.format_map(row)
    except (LookupError, TypeError):
        return ""
