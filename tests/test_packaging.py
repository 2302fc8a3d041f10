"""constraints.txt pins everything that pyproject.toml asks for, at a version it allows."""

import re
import tomllib
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pins() -> dict[str, str]:
    lines = [line.split("#")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines()]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[A-Za-z0-9_.!-]+", line) for line in lines if line)
    return {canonicalize_name(line.split("==")[0]): line.split("==")[1] for line in lines if line}


def asked() -> list[Requirement]:
    texts = [
        *PROJECT["dependencies"],
        *(r for extra in PROJECT["optional-dependencies"].values() for r in extra),
    ]
    return [r for r in map(Requirement, texts) if r.name != PROJECT["name"]]


def test_pins_satisfy_pyproject() -> None:
    pinned = pins()
    for requirement in asked():
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)], prereleases=True)


def test_everything_that_comes_with_it_is_pinned() -> None:
    pinned, waiting, seen = pins(), [(r, "") for r in asked()], set()
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        assert name in pinned, f"{name} is not in constraints.txt"
        for one in ("", *requirement.extras):
            if (name, one) not in seen:
                seen.add((name, one))
                waiting += [(Requirement(text), one) for text in distribution(name).requires or ()]


def test_installed_versions_are_the_pinned_ones() -> None:
    """Torch's local tag (+cpu) aside."""
    different = {
        name: (distribution(name).version, pinned)
        for name, pinned in pins().items()
        if name in {canonicalize_name(r.name) for r in asked()}
        and distribution(name).version.split("+")[0] != pinned
    }
    assert not different


def test_draft_worker_needs_neither_torch_nor_transformers() -> None:
    names = {Requirement(text).name for text in PROJECT["optional-dependencies"]["draft-worker"]}
    assert not names & {"torch", "transformers", "accelerate"}
