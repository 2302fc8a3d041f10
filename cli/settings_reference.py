"""Generates docs/settings.md from the settings classes: `python -m cli.settings_reference`."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen
from pydantic.fields import FieldInfo

from shared.runtime.settings import ALL, PREFIX, Common

FILE: Final = Path("docs/settings.md")
INTRODUCTION: Final = """\
# Settings

Generated from `shared/runtime/settings.py` by `python -m cli.settings_reference`; do not edit.

Every setting is an environment variable, or a line of `.env` (UTF-8, `NAME=value` or `export NAME=value`). The
environment wins over `.env`. A name that does not exist, or a value out of range, is an error that names the setting.
A setting listed under "Every service" applies to all four of them.
"""
TITLES: Final = {
    "Common": "Every service",
    "GatewaySettings": "Gateway",
    "SchedulerSettings": "Scheduler",
    "DraftWorkerSettings": "Draft worker",
    "VerifierSettings": "Verifier",
}
# Settings of the command line and the Makefile: they have no class, because no service reads them.
COMMAND_LINE: Final = {
    "OUTRIDER_ACCESS": (
        "",
        "folder of passwords and users that `outrider devices` changes; same as `--access`",
    ),
    "OUTRIDER_API_KEY": (
        "",
        "key that `outrider chat`, `status` and `policy` send to the gateway; same as `--api-key`",
    ),
    "OUTRIDER_CACHE": ("~/.cache/outrider", "folder of models and compiled wheels"),
    "OUTRIDER_DEBUG": ("", "1 = an unexpected error of a command prints its traceback"),
    "OUTRIDER_JOIN_URL": ("", "address of the broker that `outrider devices add` prints; same as `--url`"),
    "OUTRIDER_STATE": (
        ".outrider",
        "folder where a stack on this machine keeps its state; same as `--state`",
    ),
}


def document() -> str:
    """The whole page as Markdown."""
    classes: list[type[Common]] = [Common, *ALL]
    parts = [INTRODUCTION, *map(_section, classes)]
    rows = [_row([_code(name), _default(value), "", text]) for name, (value, text) in COMMAND_LINE.items()]
    parts.append("\n".join(["## Command line and Makefile", "", *_head(), *rows, ""]))
    return "\n".join(parts)


def own_fields(cls: type[Common]) -> dict[str, FieldInfo]:
    """Fields that a settings class declares; of Common, without those that every service redeclares."""
    if cls is Common:
        redeclared = set.intersection(*(set(service.__annotations__) for service in ALL))
        return {name: field for name, field in cls.model_fields.items() if name not in redeclared}
    return {name: field for name, field in cls.model_fields.items() if name in cls.__annotations__}


def _section(cls: type[Common]) -> str:
    rows = [
        _row([_code(PREFIX + name.upper()), _default(field.default), _values(field), field.description or ""])
        for name, field in own_fields(cls).items()
    ]
    return "\n".join([f"## {TITLES[cls.__name__]}", "", *_head(), *rows, ""])


def _head() -> list[str]:
    return ["| variable | default | values | meaning |", "|---|---|---|---|"]


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _default(value: object) -> str:
    if isinstance(value, bool):
        return _code(str(value).lower())
    if isinstance(value, float):
        return _code(f"{value:g}")
    return _code(str(value)) if value != "" else "–"


def _values(field: FieldInfo) -> str:
    """Allowed values of a field: a list of words, a range, or a pattern."""
    if get_origin(field.annotation) is Literal:
        return ", ".join(_code(str(choice)) for choice in get_args(field.annotation))
    if field.annotation is bool:
        return f"{_code('true')}, {_code('false')}"
    return "; ".join(_limits(field)) or "text"


def _limits(field: FieldInfo) -> Iterator[str]:
    bounds = [_bound(rule) for rule in field.metadata if isinstance(rule, Ge | Gt | Le | Lt)]
    if bounds:
        kind = "integer" if field.annotation is int else "number"
        yield f"{kind} {', '.join(bounds)}"
    for rule in field.metadata:
        if isinstance(rule, MaxLen):
            yield f"text, at most {rule.max_length:,} characters"
        pattern = getattr(rule, "pattern", None)
        if pattern:
            yield f"text that matches {_code(pattern)}"


def _bound(rule: Ge | Gt | Le | Lt) -> str:
    match rule:
        case Ge():
            return f"≥ {rule.ge:,}"
        case Gt():
            return f"> {rule.gt:,}"
        case Le():
            return f"≤ {rule.le:,}"
        case Lt():
            return f"< {rule.lt:,}"


def _code(text: str) -> str:
    return f"`{text}`"


def main() -> None:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=FILE, help=f"file to write (default {FILE})")
    arguments = parser.parse_args()
    arguments.out.write_text(document(), encoding="utf-8")
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
