"""The GPU benchmark's program: it runs with torch, transformers and numpy alone, here in miniature on the CPU."""

import json
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from cli.bench.verifier import checks, cost, gpu
from shared.speculative import torch_rule

ROOT = Path(__file__).resolve().parents[4]
RATES = cost.Rates(copy_bytes_s=3e12, matmul_flop_s=6e14)

HIDE = """
import sys
hidden = set({hidden!r})
class Hiding:
    def __init__(self, finder):
        self._finder = finder
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in hidden:
            return None
        return self._finder.find_spec(name, path, target)
    def __getattr__(self, name):
        return getattr(self._finder, name)
sys.meta_path[:] = [Hiding(finder) for finder in sys.meta_path]
from cli.bench.verifier.gpu import main
sys.exit(main({arguments!r}))
"""


# Comes with transformers for its command line, with some versions only.
COMMAND_LINE = {"pydantic", "pydantic_core", "rich", "typer"}


def needed(*names: str) -> set[str]:
    """These distributions and all that they require, by normalised name."""
    found: set[str] = set()
    left = list(names)
    while left:
        name = re.sub(r"[-_.]+", "-", left.pop()).lower()
        if name in found:
            continue
        found.add(name)
        try:
            lines = requires(name) or []
        except PackageNotFoundError:
            continue
        for requirement in map(Requirement, lines):
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                left.append(requirement.name)
    return found


def hidden_modules() -> set[str]:
    """Every installed module that torch, transformers and numpy do not bring with them."""
    brought = needed("torch", "transformers", "numpy")
    return {
        module
        for module, distributions in packages_distributions().items()
        if module.isidentifier()
        and not any(re.sub(r"[-_.]+", "-", d).lower() in brought for d in distributions)
        and module not in ("cli", "loadgen", "services", "shared")
    }


def run(*arguments: str, hidden: set[str]) -> subprocess.CompletedProcess[str]:
    code = HIDE.format(hidden=sorted(hidden), arguments=list(arguments))
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
    )


@pytest.mark.slow
def test_every_step_runs_with_nothing_else_installed(tmp_path: Path) -> None:
    hidden = hidden_modules() | COMMAND_LINE
    assert {"redis", "aiohttp", "msgpack", "structlog", "prometheus_client"} <= hidden
    out = tmp_path / "deep" / "smoke.json"
    done = run("--cpu-smoke", "--out", str(out), hidden=hidden)
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads(out.read_text())
    assert results["exact"]
    assert results["golden_failures"] == []
    assert list(results["packed_against_plain"]) == ["Llama", "Qwen2", "Qwen3", "Gemma 2", "Gemma 3"]
    cells = results["models"]["tiny"]["cells"]
    assert [(c["rows"], c["tokens"]) for c in cells] == [(1, 1), (1, 4), (4, 1), (4, 4)]
    assert all(c["ms"] > 0 and c["floor_ms"] > 0 and c["repeats"] >= 3 for c in cells)
    assert "exact" in done.stdout


@pytest.mark.slow
def test_without_time_it_measures_nothing_and_says_so(tmp_path: Path) -> None:
    out = tmp_path / "smoke.json"
    done = run("--cpu-smoke", "--minutes", "0", "--out", str(out), hidden=set())
    assert done.returncode == 0, done.stdout + done.stderr
    cells = json.loads(out.read_text())["models"]["tiny"]["cells"]
    assert {c["skipped"] for c in cells} == {"no time left"}


def test_without_torch_one_line_and_no_error() -> None:
    done = run(hidden={"torch"})
    assert done.returncode == 0
    assert done.stdout == f"gpu-bench: {sys.executable} has no torch; nothing measured\n"


def test_without_a_gpu_one_line_and_no_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert gpu.main([]) == 0
    assert capsys.readouterr().out == "gpu-bench: no CUDA GPU here; nothing measured\n"


def test_shapes_are_the_models_that_they_are_named_for() -> None:
    shapes = {name: cost.PassWork.of(config) for name, config in cost.models(smoke=False).items()}
    assert shapes["Qwen3-8B"].resident == 8_190_735_360
    assert shapes["Qwen3-32B"].resident == 32_762_123_264
    assert shapes["Qwen3-8B"].kv_bytes == 147_456
    assert shapes["Qwen3-32B"].kv_bytes == 262_144


def test_worked_floor() -> None:
    work = cost.PassWork.of(cost.models(smoke=False)["Qwen3-8B"])
    memory_s, compute_s = work.floor_s(cost.CostCell(rows=16, tokens=4, context=508), RATES)
    # 7.57e9 weights of 2 bytes and 16 caches of 512 tokens; 64 new tokens, each through all weights.
    assert memory_s == pytest.approx((2 * 7_568_405_504 + 8192 * 147_456) / 3e12)
    assert compute_s == pytest.approx((2 * 7_568_405_504 * 64 + 4 * 36 * 4096 * 4 * 8192) / 6e14)


def test_cells_that_do_not_fit_are_listed_with_their_bytes() -> None:
    config = cost.models(smoke=False)["Qwen3-32B"]
    cells = [cost.CostCell(1, 1, 512), cost.CostCell(64, 8, 4096)]
    results = list(cost.cost_law(config, "cpu", cells, RATES, 1 << 30, lambda: 1e9))
    needed_bytes = 2 * 32_762_123_264 + 64 * 4112 * 262_144 + cost.RESERVE
    assert results[1]["skipped"] == f"needs {needed_bytes} bytes, there are {1 << 30}"
    assert all("skipped" in result for result in results)


def test_the_law_is_found_again() -> None:
    cells = [
        {"rows": r, "tokens": t, "context": c, "ms": 20 + 0.1 * r * t + 0.0005 * r * c}
        for r in (1, 4, 16)
        for t in (1, 8)
        for c in (512, 4096)
    ]
    law = cost.fitted([*cells, {"rows": 64, "tokens": 1, "context": 512, "skipped": "no time left"}])
    assert law is not None
    assert law["fixed_ms"] == pytest.approx(20)
    assert law["per_token_ms"] == pytest.approx(0.1)
    assert law["per_cached_token_ms"] == pytest.approx(0.0005)
    assert law["worst_relative_error"] < 1e-9
    assert cost.fitted(cells[:3]) is None


def test_names_of_devices_become_file_names() -> None:
    assert gpu.slug("NVIDIA H100 80GB HBM3") == "nvidia-h100-80gb-hbm3"


def test_a_wrong_device_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_rule, "_shift_right", lambda x, n: x >> n)
    assert any(failure.startswith("bits") for failure in checks.golden_failures("cpu"))
