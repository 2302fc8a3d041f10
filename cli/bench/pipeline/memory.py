"""The memory of a pipeline's ranks, with a real target: each under a limit that the whole target cannot be loaded in.

    python -m cli.bench.pipeline.memory [--model qwen2.5-coder] [--stages 4] [--json FILE]

A rank may need its weights in float32, its part of the KV pool, and half a GiB. The whole group runs with each rank
under that limit, and answers a long prompt; then one process tries to load the whole target under the largest of these
limits, and without any. Needs free memory for the whole target in float32.
"""

import asyncio
import json
import math
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from cli.bench.pipeline.memory_limit import MemoryLimit, memory_limit
from cli.command.bench_main import bench_main
from cli.command.errors import CommandError
from cli.command.options import STATE
from cli.models.resolve import resolve
from cli.stack.specs import STAGE
from cli.stack.stack import LocalStack, Ports, StackOptions
from loadgen.client.streaming import Client
from loadgen.measuring.result import write_measurement
from loadgen.measuring.table import table
from loadgen.request import ChatRequest

MORE: Final = 512 << 20
FLOAT32: Final = 4
KV_TOKENS: Final = 2048
PROMPT: Final = "The river has three mills and one bridge. "
SENTENCES: Final = 120  # of the prompt: half of the pool
TOKENS: Final = 8
READY_S: Final = 900.0
WHOLE_S: Final = 600.0

WHOLE: Final = """
import re, sys
from services.verifier.loading import load_target
load_target(sys.argv[1], dtype="float32", device="cpu", kv_tokens=int(sys.argv[2]))
print(int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) << 10)
"""

COLUMNS: Final = {
    "process": "{name}",
    "weights MiB": "{weights_mib:.0f}",
    "pool MiB": "{pool_mib:.0f}",
    "limit MiB": "{limit_mib:.0f}",
    "peak MiB": "{peak_mib:.0f}",
    "more than weights and pool": "{more_mib:.0f}",
}


@dataclass(frozen=True, slots=True)
class Part:
    """What a rank holds, in bytes."""

    name: str  # of its process in a stack
    weights: int
    pool: int

    @property
    def limit(self) -> int:
        """The most that may be resident."""
        return self.weights + self.pool + MORE


@dataclass(frozen=True, slots=True)
class Peak:
    """A rank's part, and the most that was ever resident of its process, in bytes."""

    part: Part
    peak: int


@dataclass(frozen=True, slots=True)
class Whole:
    """One process that loads the whole target. limited: its exit code under the limit; peak: bytes without one."""

    limit: int
    limited: int
    last_words: str
    peak: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of a run. kind: of the limit. answer: tokens that the group answered with."""

    kind: str
    peaks: Sequence[Peak]
    answer: int
    whole: Whole


def parts(folder: Path, layers: Sequence[int], kv_tokens: int) -> list[Part]:
    """The ranks of a target in float32, rank 0 first. layers: of each stage."""
    sizes = dict(_sizes(folder))
    config = json.loads((folder / "config.json").read_text())
    head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    kv_of_layer = 2 * FLOAT32 * config["num_key_value_heads"] * head_dim * kv_tokens
    found = [Part("verifier", sum(size for name, size in sizes.items() if "layers." not in name), 0)]
    first = 0
    for rank, count in enumerate(layers, start=1):
        own = tuple(f"model.layers.{index}." for index in range(first, first + count))
        weights = sum(size for name, size in sizes.items() if name.startswith(own))
        found.append(Part(f"{STAGE}{rank}", weights, count * kv_of_layer))
        first += count
    return found


def _sizes(folder: Path) -> Iterator[tuple[str, int]]:
    """Names of all tensors, and their bytes in float32."""
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        for name, entry in header.items():
            if name != "__metadata__":
                yield name, FLOAT32 * math.prod(entry["shape"])


def even_split(layers: int, stages: int) -> list[int]:
    """As many layers for each stage as for the others, or one more."""
    return [layers // stages + (stage < layers % stages) for stage in range(stages)]


def split_target(folder: Path, stages: int) -> list[Part]:
    """The ranks of a pipeline of this target. Raises CommandError."""
    layers = json.loads((folder / "config.json").read_text())["num_hidden_layers"]
    if not 2 <= stages <= layers:
        raise CommandError(f"--stages {stages}: from 2 to the target's {layers} layers")
    return parts(folder, even_split(layers, stages), KV_TOKENS)


async def group(
    options: StackOptions, ranks: Sequence[Part], limit: MemoryLimit
) -> tuple[Sequence[Peak], int]:
    """Run the group with each rank under its limit. Returns the peaks, and the number of tokens answered."""
    stack = LocalStack(options)
    for rank in ranks:
        process = stack.processes[rank.name]
        process.spec = replace(process.spec, argv=limit.argv(rank.name, rank.limit, process.spec.argv))
    try:
        await stack.start()
        await stack.wait_ready(READY_S)
        async with Client(stack.url) as client:
            request = ChatRequest("m", options.served_name, PROMPT * SENTENCES, TOKENS, ignore_eos=True)
            record = await client.chat(request)
        if record.error:
            raise CommandError(f"the group's answer: {record.error}")
        if died := [death for process in stack.processes.values() for death in process.deaths]:
            raise CommandError("; ".join(died))
        return [Peak(rank, peak(stack.processes[rank.name].pid)) for rank in ranks], len(record.tokens)
    finally:
        await stack.stop()


def peak(pid: int) -> int:
    """Bytes that were resident of a process at most."""
    found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    if found is None:
        raise CommandError("this system does not say what a process has in memory")
    return int(found[1]) << 10


def load_whole(folder: Path, limit: MemoryLimit, amount: int) -> Whole:
    """Load the whole target in one process, under a limit and then without."""
    command = (sys.executable, "-c", WHOLE, str(folder), str(KV_TOKENS))
    tries = []
    for argv in (limit.argv("whole", amount, command), command):
        tries.append(subprocess.run(argv, capture_output=True, text=True, timeout=WHOLE_S, check=False))  # noqa: S603
    limited, free = tries
    if free.returncode:
        raise CommandError(f"the whole target cannot be loaded here at all: {last_line(free.stderr)}")
    why = last_line(limited.stderr) if limited.returncode > 0 else ""  # a killed one says nothing
    return Whole(amount, limited.returncode, why, int(free.stdout.split()[-1]))


def last_line(text: str) -> str:
    """The last line of an output; "" when there is none."""
    return (text.strip().splitlines() or [""])[-1]


def run(model: str, stages: int, state_dir: Path) -> Outcome:
    """All of it. Raises CommandError, ModelError, ProcessFailed, TimeoutError."""
    target, draft, name = resolve(model)
    ranks = split_target(target, stages)
    layers = even_split(json.loads((target / "config.json").read_text())["num_hidden_layers"], stages)
    env = {
        "OUTRIDER_DTYPE": "float32",
        "OUTRIDER_KV_TOKENS": str(KV_TOKENS),
        "OUTRIDER_STAGE_LAYERS": ",".join(map(str, layers)),
    }
    options = StackOptions(target, draft, name, draft_workers=1, state_dir=state_dir, env=env, stages=stages)
    options = replace(options, ports=Ports.free(options.health_ports))
    limit = memory_limit()
    try:
        peaks, answer = asyncio.run(group(options, ranks, limit))
        whole = load_whole(target, limit, max(rank.limit for rank in ranks))
    finally:
        limit.end()
    return Outcome(limit.kind, peaks, answer, whole)


def rows(outcome: Outcome) -> list[dict[str, Any]]:
    """For the table and the result file."""
    return [
        {
            "name": one.part.name,
            "weights_mib": one.part.weights / (1 << 20),
            "pool_mib": one.part.pool / (1 << 20),
            "limit_mib": one.part.limit / (1 << 20),
            "peak_mib": one.peak / (1 << 20),
            "more_mib": (one.peak - one.part.weights - one.part.pool) / (1 << 20),
        }
        for one in outcome.peaks
    ]


def measure(
    model: Annotated[str, typer.Option(help="Name of a local model.")] = "qwen2.5-coder",
    stages: Annotated[int, typer.Option(help="Stages beside rank 0.")] = 4,
    json_: Annotated[Path | None, typer.Option("--json", help="Result file.")] = None,
) -> None:
    """Memory of a pipeline's ranks, with a real target in float32."""
    outcome = run(model, stages, STATE / "memory")
    console = Console()
    console.print(table(rows(outcome), COLUMNS, f"{model} over {stages} stages, limited by {outcome.kind}"))
    whole = outcome.whole
    console.print(
        f"the whole target in one process: {whole.peak >> 20} MiB; under {whole.limit >> 20} MiB it ends with code "
        f"{whole.limited} {whole.last_words}"
    )
    if json_ is not None:
        config = {"model": model, "stages": stages, "kv_tokens": KV_TOKENS, "limit": outcome.kind}
        write_measurement(json_, "pipeline-memory", config, {"ranks": rows(outcome), "whole": asdict(whole)})


if __name__ == "__main__":
    bench_main(measure)
