"""One version: what the commands show is what pyproject.toml says."""

import tomllib
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app as outrider
from loadgen.__main__ import app as loadgen
from shared.runtime import version

PYPROJECT = Path(__file__).resolve().parents[3] / "pyproject.toml"


def test_both_commands_show_the_projects_version() -> None:
    expected = tomllib.loads(PYPROJECT.read_text())["project"]["version"]
    for name, app in (("outrider", outrider), ("loadgen", loadgen)):
        done = CliRunner().invoke(app, ["--version"])
        assert (done.exit_code, done.stdout) == (0, f"{name} {expected}\n")


def test_code_that_is_not_installed_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(version, "version", missing)
    assert version.outrider_version() == version.UNKNOWN
