"""Packed against padded verification on this machine's CPU.

    python -m cli.bench.verifier.packed [--quick] [--repeats 12] [--out FILE]

Padded is how transformers verifies a batch: every row padded to the longest, one call of the model with its own
DynamicCache. Both sides hold the same 256 tokens of context per row, run the same weights in the same dtype on the same
threads, and draw their tokens with the same sampler. Repeats are interleaved. Finished models stay in the result file,
so that an interrupted run of the same code can be resumed.
"""

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final
from unittest import mock

import numpy as np
import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

from cli.command.bench_main import bench_main
from loadgen.measuring.arms import order
from loadgen.measuring.fixed_pass import FixedPass, cache_context
from loadgen.measuring.intervals import median_ratio
from loadgen.measuring.result import interrupted, write_measurement
from loadgen.measuring.timing import time_s, times_s
from loadgen.results.result_file import hardware
from services.verifier import chooser
from services.verifier.head import Head
from services.verifier.packed import PackedPass
from services.verifier.torch_target import TorchTarget
from shared.speculative import torch_rule
from shared.speculative.params import SamplingParams

CONTEXT: Final = 256
MAX_NEW: Final = 8  # tokens of a row
ROWS: Final = (1, 4, 8, 16)
TOKENS: Final = (1, 4, 8)
KV_TOKENS: Final = 16384  # as served by default
SHARE_PASSES: Final = 3
MODELS: Final = {"smollm2": ("float32", "bfloat16"), "qwen2.5-coder": ("bfloat16",)}
COLUMNS: Final = {
    "rows x tokens": "{cell}",
    "packed ms": "{packed_ms:.1f}",
    "padded ms": "{padded_ms:.1f}",
    "packed / padded (95 %)": "{ratio:.3f} ({ratio_95[0]:.3f} to {ratio_95[1]:.3f})",
    **{part: f"{{shares[{part}]:.1%}}" for part in ("linear", "attention", "sampling", "rest")},
    "same tokens": "{agreed:.1%}",
}

ROOT: Final = Path(__file__).resolve().parents[3]
CODE: Final = ("services/verifier", "shared/speculative", "shared/compute", "cli/bench/verifier")

Run = Callable[[], list[int]]
Side = tuple[Run, Callable[[], None]]  # a pass, and what makes the next one possible


@dataclass(frozen=True, slots=True)
class PackedCell:
    """A batch: how many new tokens each row has."""

    name: str
    counts: tuple[int, ...]


def cells(quick: bool) -> list[PackedCell]:
    """Rows × tokens, and mixed: counts spread evenly over 1 .. 8."""
    rows_of, tokens_of = ((1, 8), (1, 4)) if quick else (ROWS, TOKENS)
    even = [PackedCell(f"{rows} x {tokens}", (tokens,) * rows) for rows in rows_of for tokens in tokens_of]
    mixed = [
        PackedCell(f"{rows} x mixed", tuple(1 + round((MAX_NEW - 1) * i / (rows - 1)) for i in range(rows)))
        for rows in rows_of
        if rows > 1
    ]
    return even + mixed


class Sides:
    """One model twice, with the same weights: packed in our pool, and padded as transformers does it."""

    def __init__(self, folder: Path, dtype: str, rows: int) -> None:
        factory: Any = AutoModelForCausalLM
        self._model: Any = factory.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
        self._vocab = self._model.config.vocab_size
        shared = {
            id(weight): weight for weight in self._model.parameters()
        }  # deepcopy takes these as they are
        twin = deepcopy(self._model, shared)
        self.target = TorchTarget(
            twin,
            vocabulary="",
            vocab=self._vocab,
            kv_tokens=KV_TOKENS,
            prefix_sharing=False,
        )
        self.linears = [module for module in twin.modules() if type(module).__name__.endswith("Linear")]
        self._ids = texts(folder, rows)
        self._sessions = [f"s{row}" for row in range(rows)]
        self._cache = self._prefill()

    @torch.inference_mode()
    def _prefill(self) -> Any:
        """Context of every row on both sides; the padded side's cache holds all rows."""
        parts: list[Any] = []
        for row, (session, ids) in enumerate(zip(self._sessions, self._ids, strict=True)):
            cache_context(self.target, session, ids[:CONTEXT], self._sampling(row), room=MAX_NEW)
            cache = self._empty_cache()
            self._model(
                torch.tensor([ids[:CONTEXT]]), past_key_values=cache, use_cache=True, logits_to_keep=1
            )
            parts.append(cache)
        whole = self._empty_cache()
        for index in range(len(parts[0].layers)):
            whole.update(
                torch.cat([part.layers[index].keys for part in parts]),
                torch.cat([part.layers[index].values for part in parts]),
                index,
            )
        return whole

    def _empty_cache(self) -> Any:
        """An empty cache of transformers."""
        return DynamicCache(config=self._model.config)

    def packed(self, cell: PackedCell) -> Side:
        """A pass over the cell in our pool."""
        tokens = [ids[CONTEXT : CONTEXT + count] for ids, count in zip(self._ids, cell.counts, strict=False)]
        one = FixedPass(self.target, self._sessions[: len(tokens)], tokens, CONTEXT, self._sampling)
        return lambda: [token for choices in one.run() for token in choices.tokens], one.reset

    def padded(self, cell: PackedCell) -> Side:
        """A pass over the cell with transformers. Padding is on the right, where causality hides it: no mask needed."""
        rows, longest = len(cell.counts), max(cell.counts)
        cache = self._empty_cache()
        for index, layer in enumerate(self._cache.layers):
            cache.update(layer.keys[:rows].clone(), layer.values[:rows].clone(), index)
        ids = torch.zeros(rows, longest, dtype=torch.int64)
        for row, count in enumerate(cell.counts):
            ids[row, :count] = torch.tensor(self._ids[row][CONTEXT : CONTEXT + count])
        positions = torch.arange(CONTEXT, CONTEXT + longest).expand(rows, -1)
        drawn = torch.arange(longest) < torch.tensor(cell.counts)[:, None]
        params = [self._sampling(row) for row, count in enumerate(cell.counts) for _ in range(count)]
        at = [CONTEXT + 1 + i for count in cell.counts for i in range(count)]

        @torch.inference_mode()
        def run() -> list[int]:
            logits = self._model(ids, position_ids=positions, past_key_values=cache, use_cache=True).logits
            return torch_rule.draw_rows(logits[drawn].float(), params, at)

        def reset() -> None:
            if (beyond := cache.get_seq_length() - CONTEXT) > 0:
                cache.crop(-beyond)

        return run, reset

    def _sampling(self, row: int) -> SamplingParams:
        return SamplingParams(seed=row, vocab=self._vocab, temperature=0.7, top_p=0.9)


def texts(folder: Path, rows: int) -> list[list[int]]:
    """Ids of running text, a different passage of our own documentation for each row. [rows, CONTEXT + MAX_NEW]"""
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    pages = sorted((ROOT / "docs").glob("*.md"))
    ids: list[int] = tokenizer.encode("\n".join(page.read_text() for page in pages))
    length = CONTEXT + MAX_NEW
    step = (len(ids) - length) // rows
    if step < 1:
        raise ValueError(f"docs/ has {len(ids)} tokens, too few for {rows} passages of {length}")
    return [ids[row * step : row * step + length] for row in range(rows)]


def measure(
    sides: Sides, cells: list[PackedCell], repeats: int, tick: Callable[[], None]
) -> list[dict[str, Any]]:
    """Interleaved timings of all cells: ratio, agreement, and shares of the packed pass."""
    runs = {cell: (sides.packed(cell), sides.padded(cell)) for cell in cells}
    seconds: dict[PackedCell, tuple[list[float], list[float]]] = {cell: ([], []) for cell in cells}
    agreed = {}
    for cell, (packed, padded) in runs.items():  # warms up, and compares the tokens of both sides
        pairs = zip(_drawn(*packed), _drawn(*padded), strict=True)
        agreed[cell] = float(np.mean([a == b for a, b in pairs]))
    for repeat in range(repeats):
        for cell in order(cells, repeat):
            for side in order((0, 1), repeat):
                run, reset = runs[cell][side]
                reset()
                seconds[cell][side].append(time_s(run))
        tick()
    return [
        {
            "cell": cell.name,
            **compared(*seconds[cell]),
            "agreed": agreed[cell],
            "shares": shares(sides.linears, runs[cell][0]),
        }
        for cell in cells
    ]


def _drawn(run: Run, reset: Callable[[], None]) -> list[int]:
    reset()
    return run()


def compared(packed: list[float], padded: list[float]) -> dict[str, Any]:
    """Median milliseconds of both sides, and the median ratio with its 95 % interval."""
    ratio = median_ratio(packed, padded)
    return {
        "packed_ms": 1e3 * median(packed),
        "padded_ms": 1e3 * median(padded),
        "ratio": ratio.value,
        "ratio_95": [ratio.low, ratio.high],
        "repeats": len(packed),
    }


def shares(linears: list[nn.Module], packed: Side) -> dict[str, float]:
    """Shares of a packed pass's time: linear layers (including the head), attention, sampling, rest."""
    run, reset = packed
    spent = {"linear": 0.0, "attention": 0.0, "sampling": 0.0}
    with _stopwatches(linears, spent):
        whole = sum(times_s(run, SHARE_PASSES, warm_ups=0, reset=reset))
    return {**{part: s / whole for part, s in spent.items()}, "rest": 1 - sum(spent.values()) / whole}


@contextmanager
def _stopwatches(linears: list[nn.Module], spent: dict[str, float]) -> Iterator[None]:
    """Add up the time of each part's calls. A part within a part (the head's linear layer) counts once."""
    inside = False

    def watched(function: Callable[..., Any], part: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal inside
            if inside:
                return function(*args, **kwargs)
            inside, begun = True, time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                inside = False
                spent[part] += time.perf_counter() - begun

        return call

    with ExitStack() as stack:
        for linear in linears:
            stack.enter_context(mock.patch.object(linear, "forward", watched(linear.forward, "linear")))
        stack.enter_context(mock.patch.object(Head, "logits", watched(Head.logits, "linear")))
        stack.enter_context(mock.patch.object(PackedPass, "attend", watched(PackedPass.attend, "attention")))
        draw = watched(torch_rule.draw_rows, "sampling")
        stack.enter_context(mock.patch.object(chooser, "draw_rows", draw))
        yield


def code_hash(root: Path = ROOT) -> str:
    """Hash of the measured code, so that results of other code are not taken for its own."""
    digest = hashlib.sha256()
    for file in sorted(file for folder in CODE for file in (root / folder).glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def main(
    quick: bool = False,
    repeats: int = 12,
    threads: int = 0,
    models: Path | None = None,
    out: Path | None = None,
) -> None:
    """Packed against padded verification.

    quick: SmolLM2 alone, few cells, three repeats, no resuming. threads: 0 = torch's default. models: their folder.
    """
    from rich.console import Console

    from cli.models.store import models_root
    from loadgen.measuring.progress import Steps
    from loadgen.measuring.table import table

    if threads:
        torch.set_num_threads(threads)
    repeats = 3 if quick else repeats
    out = out or Path(f".outrider/bench-packed{'-quick' if quick else ''}.json")
    config = {
        "context": CONTEXT,
        "repeats": repeats,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "code": code_hash(),
    }
    results = {} if quick else interrupted(out, "packed", config).get("models", {})
    todo = [(model, dtype) for model in (("smollm2",) if quick else MODELS) for dtype in MODELS[model]]
    console = Console()
    with Steps(console) as steps:
        for model, dtype in todo:
            folder, name = (models or models_root()) / model / "target", f"{model} {dtype}"
            if name in results:
                print(f"{name}: already in {out}")
            elif not (folder / "config.json").is_file():
                print(f"{name}: not fetched, skipped ({folder})")
            else:
                step = steps.step(name, repeats)
                batches = cells(quick)
                sides = Sides(folder, dtype, rows=max(len(cell.counts) for cell in batches))
                results[name] = measure(sides, batches, repeats, step.advance)
                write_measurement(out, "packed", config, {"models": results})
    console.print(
        f"{hardware()['cpu']}, {config['threads']} threads, torch {torch.__version__}, context {CONTEXT}"
    )
    for name, measured in results.items():
        console.print(table(measured, COLUMNS, name))


if __name__ == "__main__":
    bench_main(main)
