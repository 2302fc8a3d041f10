"""Names are terms of the field: identifiers that only this project would understand are refused in all Python files."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest

ROOT: Final = Path(__file__).resolve().parents[1]

# Refused as a word of any name, with what to write instead. Each says nothing, or something else, to a reader who knows
# servers, planners and load generators but not this project.
WORDS: Final = {
    "told": "message, line, report; notified",
    "tell": "report, notify, send",
    "untold": "unsent",
    "asked": "requested, request",
    "asker": "requester",
    "wanted": "expected, requested, required",
    "crew": "user_arrays",
    "beliefs": "posteriors",
    "laned": "with_lanes",
    "nudge": "refine_lengths",
    "onlooker": "observer",
    "rival": "baseline",
    "entrant": "contender, policy, variant",
    "course": "run_state, progress",
    "door": "in_flight, entry",
    "farewell": "draining_reason",
    "turnover": "debounce",
    "realised": "measured, throughput",
    "objection": "not_ready_reason",
    "believe": "adopt",
    "bury": "remove",
    "condemn": "dead_letter",
    "obey": "apply",
    "quieten": "silence",
    "ways": "strategies, candidates",
    "caps": "bounds",
    "portion": "subset, sample",
    "bends": "knees",
    "most": "max_ as a prefix",
    "least": "min_ as a prefix",
}
# Refused as a whole name of a function: English words that do not say what the function does.
FUNCTIONS: Final = {
    "_meet": "add",
    "_hear": "update",
    "_part": "split",
    "for_ever": "run_forever",
    "shown": "as_text",
    "_shown": "as_text",
    "figures": "summary, metrics",
    "_figures": "summary, metrics",
}
# Refused as a whole name of a module or class: a noun should say what it holds.
NOUNS: Final = {
    "ends": "exit",
    "loaded": "result_reader",
    "looks": "compare_report",
    "shown": "console",
    "found": "candidate, result",
    "figures": "measurements, metrics",
    "here": "what is local",
    "elsewhere": "what is remote",
}
# "Least squares" is a method, "at least" and "at most" are English.
FIELD_TERMS: Final = re.compile(r"least_?squares|at_(least|most)", re.IGNORECASE)
# Names of stored data: fields of the session log at the broker, which other versions of a process read.
STORED: Final = frozenset({"device_wanted", "untold"})


class Definition(NamedTuple):
    """A name that a file defines. kind: "module", "class", "function" or "variable"."""

    kind: str
    name: str
    line: int


def definitions(tree: ast.AST) -> Iterator[Definition]:
    """Classes, functions, arguments, variables, attributes and import aliases of a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield Definition("class", node.name, node.lineno)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield Definition("function", node.name, node.lineno)
        elif isinstance(node, ast.arg):
            yield Definition("variable", node.arg, node.lineno)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield Definition("variable", node.id, node.lineno)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield Definition("variable", node.attr, node.lineno)
        elif isinstance(node, ast.alias) and node.asname:
            yield Definition("variable", node.asname, node.lineno)
        elif isinstance(node, ast.MatchAs | ast.MatchStar) and node.name:
            yield Definition("variable", node.name, node.lineno)


def words(name: str) -> list[str]:
    """Words of a name in lower case: "MAX_UserArrays" is max, user, arrays."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]


def refusal(definition: Definition) -> str:
    """What to write instead of a refused name; "" = the name is fine.

    The name of a test is a sentence, in which these words are English.
    """
    kind, name = definition.kind, definition.name
    if name in STORED or (kind == "function" and name.startswith("test_")):
        return ""
    if kind == "module" and name.startswith("test_"):
        name = name.removeprefix("test_")
    whole = "_".join(words(name))
    if kind == "function" and name in FUNCTIONS:
        return FUNCTIONS[name]
    if kind in ("class", "module") and whole in NOUNS:
        return NOUNS[whole]
    return next(
        (
            WORDS[form]
            for word in words(FIELD_TERMS.sub("", name))
            for form in (word, word.removesuffix("s"))
            if form in WORDS
        ),
        "",
    )


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("variable", "told"),
        ("variable", "_told_later"),
        ("variable", "MOST_ALPHA"),
        ("variable", "arcs_at_most_ways"),
        ("class", "Rival"),
        ("class", "PolicyEntrants"),
        ("class", "Found"),
        ("function", "_part"),
        ("function", "wanted_draft"),
        ("module", "elsewhere"),
        ("module", "test_beliefs"),
    ],
)
def test_a_coy_name_is_refused(kind: str, name: str) -> None:
    assert refusal(Definition(kind, name, 1))


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("variable", "least_squares"),
        ("class", "LeastSquares"),
        ("function", "at_least"),
        ("function", "test_what_is_asked_is_told"),
        ("variable", "almost"),
        ("variable", "always"),
        ("variable", "part"),
        ("function", "part"),
        ("variable", "device_wanted"),
        ("variable", "found"),
    ],
)
def test_english_and_the_field_s_terms_are_not(kind: str, name: str) -> None:
    assert not refusal(Definition(kind, name, 1))


def test_every_kind_of_definition_is_seen() -> None:
    source = """
import a as told
class Rival:
    def tell(self, asked, *crew, **ways): self.wanted = most = 1
async def _part(): pass
for least in (): pass
match 1:
    case door: pass
"""
    seen = {(definition.kind, definition.name) for definition in definitions(ast.parse(source))}
    assert seen >= {
        ("variable", "told"),
        ("class", "Rival"),
        ("function", "tell"),
        ("variable", "asked"),
        ("variable", "crew"),
        ("variable", "ways"),
        ("variable", "wanted"),
        ("variable", "most"),
        ("function", "_part"),
        ("variable", "least"),
        ("variable", "door"),
    }


def test_names_are_of_the_field() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    files = [ROOT / name for name in listed.split("\0") if name]
    assert files
    refused = []
    for path in files:
        if not path.is_file():  # deleted, but not yet committed
            continue
        where = path.relative_to(ROOT).as_posix()
        module = Definition("module", path.stem, 1)
        for definition in (module, *definitions(ast.parse(path.read_text(encoding="utf-8")))):
            if instead := refusal(definition):
                refused.append(
                    f"{where}:{definition.line}: {definition.kind} {definition.name}; write {instead}"
                )
    assert not refused, "\n" + "\n".join(refused)
