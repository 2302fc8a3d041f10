"""The layering of docs/architecture.md: which folders may import which, and which files may make certain calls."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OURS = ("cli", "simulator", "loadgen", "services", "shared")  # each imports only those after it
FILES = sorted(path.relative_to(ROOT).as_posix() for top in OURS for path in (ROOT / top).rglob("*.py"))
MODULES = {file.removesuffix(".py").removesuffix("/__init__").replace("/", "."): file for file in FILES}
SERVICES = ("gateway", "scheduler", "draft_worker", "verifier")

# Heavy or foreign packages, and the files that may import them.
KEPT_TO = {
    "torch": [
        "services/verifier/*",
        "shared/speculative/torch_rule.py",
        "cli/bench/pipeline/live/*",  # processes that send one another tensors
        "cli/bench/verifier/*",
        "cli/calibrate/*",
        "cli/models/*",
        "cli/reference.py",
        "cli/train_awc/*",
    ],
    "transformers": [
        "services/verifier/*",
        "cli/bench/verifier/*",
        "cli/calibrate/*",
        "cli/models/*",
        "cli/reference.py",
    ],
    "accelerate": ["services/verifier/*"],
    "llama_cpp": ["services/draft_worker/*", "cli/models/*"],
    "scipy": [
        "shared/planning/bandwidth/noise_density.py",
        "shared/planning/solvers/paper/milp.py",
        "loadgen/measuring/intervals.py",
        "cli/validate/tuning.py",
    ],
    "matplotlib": [
        "cli/bench/pipeline/picture.py",
        "cli/bench/simulator_picture.py",
        "cli/bench/windows/picture.py",
        "cli/plan/*",
        "cli/race/picture.py",
        "cli/simulate/picture.py",
        "cli/validate/picture.py",
    ],
    "plotly": ["loadgen/report/*"],
    "redis": ["shared/broker/*", "cli/bench/orchestration.py"],
    "aiohttp": [
        "services/gateway/*",
        "shared/runtime/health.py",
        "shared/runtime/http_runner.py",
        "shared/runtime/listener.py",
        "cli/*",
        "loadgen/*",
    ],
}
# Modules nobody imports but these files: time comes from the running loop, threads from Compute, ids from Ids.
ALONE = {
    "threading": [],
    "concurrent.futures": ["shared/compute/compute.py"],
    "multiprocessing": [],
    "uuid": [],
    "random": ["shared/runtime/ids.py"],
    "secrets": ["shared/runtime/ids.py", "cli/stack/access.py"],
    "time": [
        "shared/runtime/service.py",  # makes the loop's clock
        "shared/runtime/stack_state.py",  # waits for a lock where no loop runs
        "services/verifier/stages/speed.py",  # a measurement, on the compute thread
        "services/verifier/cpu_times.py",  # of the passes on the compute thread, which knows no loop
        "cli/*",
        "loadgen/*",
    ],
}
# Calls by name, likewise.
CALLS = {
    "to_thread": [],
    "run_in_executor": ["shared/compute/compute.py"],
    "utcnow": [],
    "now": ["services/gateway/wall_clock.py", "cli/*", "simulator/*", "loadgen/*"],  # datetime's
}
# What a person types. Torch and llama.cpp load inside the command that needs them, or in a process of their own.
TOOLS = ("cli/*", "loadgen/*")
PROCESSES = ("cli/bench/pipeline/live/*", "cli/bench/verifier/*", "cli/reference.py")


@cache
def tree_of(file: str) -> ast.Module:
    return ast.parse((ROOT / file).read_text(encoding="utf-8"))


@cache
def imports(file: str) -> tuple[tuple[str, bool], ...]:
    """Every imported module of a file, and whether the import runs when the file is loaded."""
    return tuple(_imports(file))


def _imports(file: str) -> Iterator[tuple[str, bool]]:
    tree = tree_of(file)
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


@pytest.mark.parametrize("top", OURS)
def test_imports_run_one_way(top: str) -> None:
    above = OURS[: OURS.index(top)]
    wrong = [
        f"{file} imports {module}"
        for file in FILES
        if file.startswith(f"{top}/")
        for module, _ in imports(file)
        if any(is_in(module, other) for other in above)
    ]
    assert not wrong


def test_services_holds_the_four_deployables_alone() -> None:
    rooms = {Path(file).parts[1] for file in FILES if file.startswith("services/")}
    assert rooms == {*SERVICES, "__init__.py"}


def test_services_never_import_each_other() -> None:
    wrong = []
    for file in FILES:
        if file.startswith("services/"):
            own = Path(file).parts[1]
            others = [f"services.{name}" for name in SERVICES if name != own]
            wrong += [
                f"{file} imports {module}"
                for module, _ in imports(file)
                if any(is_in(module, other) for other in others)
            ]
    assert not wrong


def test_packages_are_kept_to_their_places() -> None:
    wrong = [
        f"{file} imports {module}"
        for file in FILES
        for module, _ in imports(file)
        for package, places in {**KEPT_TO, **ALONE}.items()
        if is_in(module, package) and not allowed(file, places)
    ]
    assert not wrong


def test_no_threads_or_clocks_by_another_door() -> None:
    wrong = [
        f"{file}:{node.lineno} calls {node.func.attr}"
        for file in FILES
        for node in ast.walk(tree_of(file))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        if node.func.attr in CALLS and not allowed(file, CALLS[node.func.attr])
    ]
    assert not wrong


def test_tools_load_nothing_heavy_before_it_is_needed() -> None:
    wrong = [
        f"{file} imports {module} when it is loaded"
        for file in FILES
        if allowed(file, TOOLS) and not allowed(file, PROCESSES)
        for module, at_load in imports(file)
        if at_load and module.split(".")[0] in ("torch", "transformers", "llama_cpp")
    ]
    assert not wrong


def test_the_rule_is_pure() -> None:
    """NumPy, itself, the standard library; torch in its torch half only (see KEPT_TO)."""
    known = {*sys.stdlib_module_names, "numpy", "torch"}
    wrong = [
        f"{file} imports {module}"
        for file in FILES
        if file.startswith("shared/speculative/")
        for module, _ in imports(file)
        if module.split(".")[0] not in known and not is_in(module, "shared.speculative")
    ]
    assert not wrong


def test_no_import_circles_between_files() -> None:
    graph = {file: loads(file) - {file} for file in FILES}
    while ends := [file for file, others in graph.items() if not others & graph.keys()]:
        for file in ends:
            del graph[file]
    assert not graph, f"these files import each other: {sorted(graph)}"


def test_the_gpu_benchmark_needs_torch_transformers_and_numpy_only() -> None:
    """It runs on machines without other packages (on which transformers depends: two more)."""
    known = {
        *sys.stdlib_module_names,
        *OURS,
        "torch",
        "transformers",
        "numpy",
        "huggingface_hub",
        "safetensors",
    }
    waiting = [file for file in FILES if file.startswith("cli/bench/verifier/")]
    seen: set[str] = set()
    while waiting:
        file = waiting.pop()
        if file not in seen:
            seen.add(file)
            waiting += loads(file)
            wrong = [
                module for module, at_load in imports(file) if at_load and module.split(".")[0] not in known
            ]
            assert not wrong, f"{file} imports {wrong}"


def loads(file: str) -> set[str]:
    """Files of this repository that are loaded with a file, including itself."""
    modules = [module for module, at_load in imports(file) if at_load]
    found = {next((name for name in (m, m.rpartition(".")[0]) if name in MODULES), "") for m in modules}
    return {file, *(MODULES[name] for name in found if name)}


def test_help_loads_neither_torch_nor_llama_cpp() -> None:
    code = (
        "import sys\n"
        "from cli import main as cli\n"
        "try: cli.app(['--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit(', '.join({'torch', 'transformers', 'llama_cpp'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_files_and_functions_fit_in_the_head() -> None:
    """At most 400 lines a file and 50 a function; ruff (C901) holds their complexity."""
    long = []
    for file in [*FILES, *(path.relative_to(ROOT).as_posix() for path in ROOT.glob("scripts/*.py"))]:
        if (ROOT / file).read_text(encoding="utf-8").count("\n") > 400:
            long.append(file)
        long += [
            f"{file}: {node.name}"
            for node in ast.walk(tree_of(file))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and (node.end_lineno or 0) - node.lineno >= 50
        ]
    assert not long
