"""docs/settings.md is up to date and complete, and describes fields correctly."""

from pathlib import Path

import pytest

from cli.settings_reference import COMMAND_LINE, document, own_fields
from shared.runtime.settings import ALL, NOT_OURS, PREFIX, Common

ROOT = Path(__file__).resolve().parents[2]


def row_of(name: str, section: str) -> str:
    """The row of a variable in a section of the page."""
    part = document().split(f"## {section}\n")[1].split("\n## ")[0]
    return next(line for line in part.splitlines() if line.startswith(f"| `{name}` "))


def test_the_page_is_up_to_date() -> None:
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert page == document(), "docs/settings.md is out of date; run: python -m cli.settings_reference"


@pytest.mark.parametrize("cls", [Common, *ALL], ids=lambda cls: cls.__name__)
def test_every_setting_has_a_description(cls: type[Common]) -> None:
    assert [name for name, field in own_fields(cls).items() if not field.description] == []


def test_every_setting_is_on_the_page() -> None:
    page = document()
    names = {PREFIX + name.upper() for cls in ALL for name in cls.model_fields} | NOT_OURS
    assert {name for name in names if f"| `{name}` |" not in page} == set()
    assert set(COMMAND_LINE) == NOT_OURS


@pytest.mark.parametrize(
    ("name", "section", "cells"),
    [
        ("OUTRIDER_PORT", "Gateway", ["`8000`", "integer ≥ 0, ≤ 65,535"]),
        ("OUTRIDER_HEADER_TIMEOUT_S", "Gateway", ["`10`", "number > 0, ≤ 86,400"]),
        ("OUTRIDER_DTYPE", "Verifier", ["`auto`", "`auto`, `float32`, `bfloat16`"]),
        ("OUTRIDER_PREFIX_SHARING", "Verifier", ["`true`", "`true`, `false`"]),
        ("OUTRIDER_BROKER_USER", "Every service", ["–", "text, at most 128 characters"]),
    ],
)
def test_a_row_has_default_and_values(name: str, section: str, cells: list[str]) -> None:
    assert row_of(name, section).split(" | ")[1:3] == cells


def test_a_default_that_every_service_sets_anew_is_listed_with_each() -> None:
    assert "health_port" not in own_fields(Common)
    assert [own_fields(cls)["health_port"].default for cls in ALL] == [9101, 9102, 9104, 9103]
