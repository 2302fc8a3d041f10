"""constraints.txt pins all requirements of pyproject.toml, for every supported Python."""

import re
import tomllib
from contextlib import suppress
from fnmatch import fnmatch
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, cast

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT: dict[str, Any] = PYPROJECT["project"]
GROUPS: dict[str, list[str]] = PYPROJECT["dependency-groups"]


# Of every version of Python promised, the patch releases that markers tell apart (redis and valkey need async-timeout
# below 3.11.3), on the systems that torch has wheels for.
PYTHONS = ("3.11.0", "3.11.2", "3.11.3", "3.12.0", "3.13.0", "3.14.0")
SYSTEMS = (("linux", "Linux", "x86_64"), ("linux", "Linux", "aarch64"), ("darwin", "Darwin", "arm64"))
PLACES = [(python, *system) for python in PYTHONS for system in SYSTEMS]


def environment(python: str, platform: str, system: str, machine: str) -> dict[str, str]:
    """Environment for the evaluation of markers."""
    return {
        "python_version": python.rpartition(".")[0],
        "python_full_version": python,
        "implementation_version": python,
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "os_name": "posix",
        "sys_platform": platform,
        "platform_system": system,
        "platform_machine": machine,
        "platform_release": "",
        "platform_version": "",
        "extra": "",
    }


def pins() -> list[Requirement]:
    """Every line of constraints.txt."""
    lines = [line.split("#")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines()]
    assert all(re.fullmatch(r"[a-z0-9-]+==[A-Za-z0-9_.!-]+( ; .+)?", line) for line in lines if line)
    return [Requirement(line) for line in lines if line]


def pinned_in(place: dict[str, str]) -> dict[str, str]:
    """Pinned versions by name in an environment."""
    found = [pin for pin in pins() if pin.marker is None or pin.marker.evaluate(place)]
    versions = {pin.name: next(iter(pin.specifier)).version for pin in found}
    assert len(versions) == len(found), "a package has two pins"
    return versions


def requirements() -> list[Requirement]:
    texts = [
        *PROJECT["dependencies"],
        *(r for extra in PROJECT["optional-dependencies"].values() for r in extra),
    ]
    return [r for r in map(Requirement, texts) if r.name != PROJECT["name"]]


def needed_in(place: dict[str, str]) -> list[Requirement]:
    """What is installed there, transitively: requirements of the project and of what comes with it.

    What is not installed here counts, but what it needs itself is not known.
    """
    building = map(Requirement, GROUPS["build"])
    found, waiting, seen = [], [(r, "") for r in (*requirements(), *building)], set()
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker and not requirement.marker.evaluate({**place, "extra": extra}):
            continue
        found.append(requirement)
        name = canonicalize_name(requirement.name)
        for one in ("", *requirement.extras):
            if (name, one) not in seen:
                seen.add((name, one))
                waiting += [(needs, one) for needs in requirements_of(name)]
    return found


@cache
def requirements_of(name: str) -> tuple[Requirement, ...]:
    """Requirements of an installed package; () when it is not installed."""
    try:
        return tuple(Requirement(text) for text in distribution(name).requires or ())
    except PackageNotFoundError:
        return ()


def test_every_python_named_is_looked_at() -> None:
    named = [text.rpartition(" ")[2] for text in PROJECT["classifiers"] if ":: Python :: 3." in text]
    assert named == sorted({python.rpartition(".")[0] for python in PYTHONS})
    assert SpecifierSet(PROJECT["requires-python"]).contains(PYTHONS[0])


@pytest.mark.parametrize("place", PLACES, ids="-".join)
def test_everything_that_is_installed_is_pinned_at_a_version_that_all_allow(
    place: tuple[str, str, str, str],
) -> None:
    where = environment(*place)
    pinned, needed = pinned_in(where), needed_in(where)
    assert not [str(r) for r in needed if canonicalize_name(r.name) not in pinned]
    found = {str(r): pinned[canonicalize_name(r.name)] for r in needed}
    assert not {text: v for text, v in found.items() if not Requirement(text).specifier.contains(v, True)}


@pytest.mark.parametrize("python", PYTHONS)
def test_every_pinned_package_allows_every_python(python: str) -> None:
    wrong = []
    for name in pinned_in(environment(python, "linux", "Linux", "x86_64")):
        with suppress(PackageNotFoundError):
            allowed = distribution(name).metadata.json.get("requires_python")
            if isinstance(allowed, str) and not SpecifierSet(allowed).contains(python):
                wrong.append(f"{name}: {allowed}")
    assert not wrong


def test_what_redis_needs_on_debian_12_alone_is_pinned_there_alone() -> None:
    old, new = (environment(python, "linux", "Linux", "x86_64") for python in ("3.11.2", "3.11.3"))
    assert "async-timeout" in pinned_in(old)
    assert "async-timeout" not in pinned_in(new)


def test_every_pattern_of_the_coverage_floor_finds_files() -> None:
    patterns = PYPROJECT["tool"]["coverage"]["run"]["include"]
    assert not [pattern for pattern in patterns if not list(ROOT.glob(pattern))]
    assert PYPROJECT["tool"]["coverage"]["report"]["fail_under"] >= 90


def test_the_wheel_has_every_data_file_of_the_packages() -> None:
    tools = PYPROJECT["tool"]["setuptools"]
    assert tools["packages"]["find"].get("namespaces", True)  # folders without __init__.py are packages too
    tops = [pattern.removesuffix("*") for pattern in tools["packages"]["find"]["include"]]
    files = [path.name for top in tops for path in (ROOT / top).rglob("*") if path.is_file()]
    data = {name for name in files if not name.endswith((".py", ".pyc")) and "Dockerfile" not in name}
    patterns = tools["package-data"]["*"]
    assert {"page.html", "page.css", "draw.js", "py.typed"} <= data
    assert not [name for name in data if not any(fnmatch(name, pattern) for pattern in patterns)]


def test_images_have_the_projects_version() -> None:
    files = [ROOT / "docker-compose.yml", *(ROOT / "k8s").rglob("*.yaml")]
    tags = [tag for file in files for tag in re.findall(r"image: outrider-[a-z-]+:(\S+)", file.read_text())]
    assert len(tags) > 10
    assert {tag.removesuffix("-cuda") for tag in tags} == {PROJECT["version"]}


def test_installed_versions_are_the_pinned_ones() -> None:
    """Torch's local tag (+cpu) aside."""
    different = {
        name: (distribution(name).version, pinned)
        for name, pinned in pinned_in({**cast(dict[str, str], default_environment()), "extra": ""}).items()
        if name in {canonicalize_name(r.name) for r in requirements()}
        and distribution(name).version.split("+")[0] != pinned
    }
    assert not different


def test_draft_worker_needs_neither_torch_nor_transformers() -> None:
    names = {Requirement(text).name for text in PROJECT["optional-dependencies"]["draft-worker"]}
    assert not names & {"torch", "transformers", "accelerate"}
