"""The data of the page template, which escapes all texts in it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from loadgen.report.chart import Chart


@dataclass(frozen=True, slots=True)
class Banner:
    """A warning at the top of the page. kind: its CSS class, "bad" (red) or "warn" (amber)."""

    kind: str
    text: str
    reasons: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Card:
    """One large number. more: the small line below it."""

    name: str
    value: str
    unit: str
    more: str


@dataclass(frozen=True, slots=True)
class Table:
    """A table whose first column names the row. text: cells are prose, so they wrap and align left.

    before, after: a line above and a caption below, "" for none.
    """

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    text: bool = False
    before: str = ""
    after: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """Charts, tables and definitions (term -> text) under one heading."""

    title: str
    charts: Sequence[Chart] = ()
    tables: Sequence[Table] = ()
    definitions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plot:
    """A chart at its place in the page. id: of its HTML element; wide: it takes the page's whole width."""

    id: str
    chart: Chart
    wide: bool
