"""HTML whose text cannot become markup, and figures as a person reads them."""

from collections.abc import Iterable, Sequence
from html import escape
from math import isfinite

VOID = ("meta", "br")


class Html(str):
    """Text that is markup already; all other text is escaped where it is put in."""

    __slots__ = ()


def tag(name: str, /, *inside: str, **attributes: str) -> Html:
    """One element. An attribute's name may end in _, and _ in it stands for -."""
    told = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"' for key, value in attributes.items()
    )
    text = "" if name in VOID else "".join(inner(one) for one in inside) + f"</{name}>"
    return Html(f"<{name}{told}>{text}")


def inner(text: str) -> Html:
    """Markup as it is, all else escaped."""
    return text if isinstance(text, Html) else Html(escape(text))


def joined(parts: Iterable[str]) -> Html:
    """One after the other."""
    return Html("".join(inner(part) for part in parts))


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Html:
    """The first column names the row; figures stand to the right."""
    head = tag("tr", *(tag("th", heading) for heading in headings))
    body = [tag("tr", tag("th", row[0], scope="row"), *(tag("td", cell) for cell in row[1:])) for row in rows]
    return tag("div", tag("table", tag("thead", head), tag("tbody", *body)), class_="scroll")


def figure(value: float | None, scale: float = 1.0, digits: int | None = None) -> str:
    """About three digits; – for what was not measured."""
    if value is None or not isfinite(value):
        return "–"
    shown = value * scale
    size = abs(shown)
    places = digits if digits is not None else 0 if size >= 100 else 1 if size >= 10 else 2
    return f"{shown:,.{places}f}"
