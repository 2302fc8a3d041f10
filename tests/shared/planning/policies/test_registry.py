"""The registry is the one place with a list of policies; everything else derives from it."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from shared.planning.policies import POLICY_NAMES, REGISTRY, make_policy

ROOT = Path(__file__).resolve().parents[4]
OURS = ("cli", "loadgen", "services", "shared", "scripts")
REGISTRY_FILE = ROOT / "shared/planning/policies/__init__.py"
FEW = 4  # names from which on a literal lists the policies; examples in help texts have up to three
NAME = re.compile(r"(?<![\w-])(" + "|".join(sorted(POLICY_NAMES, key=len, reverse=True)) + r")(?![\w-])")

# A policy that is only in the registry, and everything that lists policies.
DUMMY = """
import sys, types
from shared.planning import policies
module = types.ModuleType("shared.planning.policies.dummy")
module.make = lambda k, batches: ("dummy policy", k, batches)
sys.modules[module.__name__] = module
policies.REGISTRY["dummy"] = policies.PolicyEntry("dummy", "#123456", speculates=False)
policies.POLICY_NAMES = tuple(policies.REGISTRY)

from cli.stack.commands import POLICIES
from loadgen.report.chart import policy_colours
from services.gateway import admin
from shared.runtime.settings import SchedulerSettings
from shared.scenario import scenario
assert policies.make_policy("dummy", 3, 5) == ("dummy policy", 3, 5)
assert "dummy" in POLICIES, POLICIES
assert policy_colours(["dummy"]) == {"dummy": "#123456"}
assert "dummy" in SchedulerSettings.model_fields["policy"].description
assert "dummy" in scenario.POLICY_NAMES and "dummy" in admin.POLICY_NAMES
"""


def lists_of_policies(text: str) -> list[int]:
    """Lines of literals that hold several policies' names, in strings of their own or in one text."""
    lines = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Tuple | ast.List | ast.Set | ast.Dict):
            parts = node.keys if isinstance(node, ast.Dict) else node.elts
            names = {part.value for part in parts if isinstance(part, ast.Constant)} & {*POLICY_NAMES}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names = {*NAME.findall(node.value)}
        else:
            continue
        if len(names) >= FEW:
            lines.append(node.lineno)
    return lines


def test_no_other_file_lists_the_policies() -> None:
    files = [file for top in OURS for file in (ROOT / top).rglob("*.py") if file != REGISTRY_FILE]
    wrong = [
        f"{file.relative_to(ROOT)}:{line}"
        for file in files
        for line in lists_of_policies(file.read_text(encoding="utf-8"))
    ]
    assert not wrong


def test_the_search_finds_lists_in_literals_and_in_texts() -> None:
    assert lists_of_policies(REGISTRY_FILE.read_text(encoding="utf-8"))
    assert lists_of_policies('help = "fixed-k, cyclic-k, dip-sd or outrider"') == [1]
    assert lists_of_policies('COLOURS = {\n"fixed-k": 1, "cyclic-k": 2, "dip-sd": 3, "outrider": 4}') == [1]
    assert lists_of_policies('CHOSEN = ("fixed-k", "outrider-fair")') == []


def test_a_policy_in_the_registry_is_known_everywhere() -> None:
    done = subprocess.run(
        [sys.executable, "-c", DUMMY], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", POLICY_NAMES)
def test_every_policy_is_made_under_its_own_name(name: str) -> None:
    policy = make_policy(name, k=6, batches=3)
    assert policy.name == name
    speculates = policy.plans or policy.k > 0
    assert REGISTRY[name].speculates == speculates


def test_every_file_of_a_policy_is_registered_and_every_colour_is_used_once() -> None:
    shared = {"__init__", "closing", "unplanned"}
    files = {file.stem for file in REGISTRY_FILE.parent.glob("*.py")} - shared
    assert files == {entry.module for entry in REGISTRY.values()}
    assert len({entry.colour for entry in REGISTRY.values()}) == len(REGISTRY)


def test_names_are_read_without_numpy() -> None:
    code = "import sys, shared.planning.policies; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
