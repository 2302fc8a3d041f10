"""The layering of docs/architecture.md, read off the imports: who may import whom, and which calls are whose."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OURS = ("services", "shared", "loadgen")
FILES = sorted(path.relative_to(ROOT).as_posix() for top in OURS for path in (ROOT / top).rglob("*.py"))
SERVICES = ("gateway", "scheduler", "draft_worker", "verifier")

# Heavy or foreign packages, and the files that may import them.
KEPT_TO = {
    "torch": [
        "services/verifier/*",
        "shared/speculative/torch_rule.py",
        "services/models/*",
        "services/doctor*",
    ],
    "transformers": ["services/verifier/*", "services/models/*", "services/doctor*"],
    "accelerate": ["services/verifier/*"],
    "llama_cpp": ["services/draft_worker/*", "services/models/*", "services/doctor*"],
    "redis": ["shared/broker/*"],
    "aiohttp": ["services/gateway/*", "services/local/*", "shared/runtime/health.py", "loadgen/*"],
}
# Modules nobody imports but these files: time comes from the running loop, threads from Compute, ids from Ids.
ALONE = {
    "threading": [],
    "concurrent.futures": ["shared/compute/compute.py"],
    "multiprocessing": [],
    "uuid": [],
    "random": ["shared/runtime/ids.py"],
    "secrets": ["shared/runtime/ids.py"],
    "time": [
        "services/verifier/bench*",  # measures; serves nobody
        "services/verifier/reference*",
        "services/models/measure.py",
        "services/doctor*",
        "services/local/*",
        "loadgen/*",
    ],
}
# Calls by name, likewise.
CALLS = {
    "to_thread": [],
    "run_in_executor": ["shared/compute/compute.py"],
    "utcnow": [],
    "now": [
        "services/gateway/wall_clock.py",
        "services/doctor*",
        "services/local/*",
        "loadgen/*",
    ],  # datetime's
}
# Command line and tools: the only ones that may name a service, inside the function that needs it.
TOOLS = ("services/cli.py", "services/local/*", "services/doctor*", "services/models/*")


def imports(file: str) -> Iterator[tuple[str, bool]]:
    """Every imported module of a file, and whether the import runs when the file is loaded."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) not in inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            yield from ((f"{node.module}.{alias.name}", id(node) not in inside) for alias in node.names)


def is_in(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def allowed(file: str, patterns: list[str] | tuple[str, ...]) -> bool:
    return any(fnmatch(file, pattern) for pattern in patterns)


@pytest.mark.parametrize("file", FILES)
def test_shared_imports_nothing_of_ours_and_services_never_each_other(file: str) -> None:
    parts = file.split("/")
    for module, at_load in imports(file):
        if parts[0] == "shared":
            assert not any(is_in(module, top) for top in OURS if top != "shared"), f"{file} imports {module}"
        for service in SERVICES:
            if not is_in(module, f"services.{service}"):
                continue
            if parts[0] == "services" and parts[1] == service:
                continue
            assert allowed(file, TOOLS) or parts[0] == "loadgen", f"{file} imports {module}"
            assert not at_load, f"{file} imports {module} outside the function that needs it"


@pytest.mark.parametrize("file", FILES)
def test_packages_are_kept_to_their_places(file: str) -> None:
    for module, _ in imports(file):
        for package, places in {**KEPT_TO, **ALONE}.items():
            if is_in(module, package):
                assert allowed(file, places), f"{file} imports {module}"


@pytest.mark.parametrize("file", FILES)
def test_no_threads_or_clocks_by_another_door(file: str) -> None:
    for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CALLS:
            assert allowed(file, CALLS[node.func.attr]), f"{file}:{node.lineno} calls {node.func.attr}"


@pytest.mark.parametrize("file", FILES)
def test_tools_load_nothing_heavy_before_it_is_needed(file: str) -> None:
    if allowed(file, TOOLS):
        heavy = [
            m
            for m, at_load in imports(file)
            if at_load and m.split(".")[0] in ("torch", "transformers", "llama_cpp")
        ]
        assert not heavy, f"{file} imports {heavy} when it is loaded"


@pytest.mark.parametrize("file", [file for file in FILES if file.startswith("shared/speculative/")])
def test_the_rule_is_pure(file: str) -> None:
    """NumPy, itself, the standard library; torch in its torch half only."""
    known = {*sys.stdlib_module_names, "numpy", "shared", "torch"}
    for module, _ in imports(file):
        assert module.split(".")[0] in known, f"{file} imports {module}"
        if is_in(module, "shared"):
            assert is_in(module, "shared.speculative"), f"{file} imports {module}"


def test_no_import_circles_between_files() -> None:
    names = {file.removesuffix(".py").removesuffix("/__init__").replace("/", "."): file for file in FILES}

    def loads(file: str) -> set[str]:
        found = {
            next((n for n in (m, m.rpartition(".")[0]) if n in names), "")
            for m, at_load in imports(file)
            if at_load
        }
        return {names[name] for name in found if name} - {file}

    graph = {file: loads(file) for file in FILES}
    while ends := [file for file, others in graph.items() if not others & graph.keys()]:
        for file in ends:
            del graph[file]
    assert not graph, f"these files import each other: {sorted(graph)}"


def test_help_loads_neither_torch_nor_llama_cpp() -> None:
    code = (
        "import sys\n"
        "from services import cli\n"
        "try: cli.app(['--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit(', '.join({'torch', 'transformers', 'llama_cpp'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
