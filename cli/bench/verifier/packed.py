"""Packed against padded verification on this machine's CPU.

    python -m cli.bench.verifier.packed [--quick] [--repeats 12] [--out FILE]

Padded is how transformers verifies a batch: every row padded to the longest, one call of the model with its own
DynamicCache. Both sides hold the same 256 tokens of context a row, run the same weights in the same dtype on the
same threads, and draw their tokens with the same sampler. Repeats are interleaved, the order of the two sides
flipped each time. Finished models are kept in the file, so a run of the same code can be resumed.
"""

import argparse
import hashlib
import json
import os
import platform
import re
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

from services.verifier import torch_target
from services.verifier.head import Head
from services.verifier.packed import PackedPass
from services.verifier.torch_target import TorchTarget
from shared.compute.target import TargetRow
from shared.speculative import torch_rule
from shared.speculative.params import SamplingParams

CONTEXT: Final = 256
LONGEST: Final = 8
ROWS: Final = (1, 4, 8, 16)
TOKENS: Final = (1, 4, 8)
KV_TOKENS: Final = 16384  # as served by default
SHARE_PASSES: Final = 3
MODELS: Final = {"smollm2": ("float32", "bfloat16"), "qwen2.5-coder": ("bfloat16",)}

Run = Callable[[], list[int]]


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
        PackedCell(f"{rows} x mixed", tuple(1 + round((LONGEST - 1) * i / (rows - 1)) for i in range(rows)))
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
        for session, ids in zip(self._sessions, self._ids, strict=True):
            self._admit(session, CONTEXT)
            sampling = SamplingParams(seed=0, vocab=self._vocab)
            self.target.forward(
                [TargetRow(session, 0, ids[:CONTEXT], CONTEXT, choose=False, sampling=sampling)]
            )
            self.target.keep(session, CONTEXT)
            cache = self._own_cache()
            self._model(
                torch.tensor([ids[:CONTEXT]]), past_key_values=cache, use_cache=True, logits_to_keep=1
            )
            parts.append(cache)
        whole = self._own_cache()
        for index in range(len(parts[0].layers)):
            whole.update(
                torch.cat([part.layers[index].keys for part in parts]),
                torch.cat([part.layers[index].values for part in parts]),
                index,
            )
        return whole

    def _own_cache(self) -> Any:
        """An empty cache of transformers."""
        return DynamicCache(config=self._model.config)

    def _admit(self, session: str, length: int) -> None:
        if not self.target.admit(session, (), self._sessions, length):
            raise RuntimeError(f"{session}: no pages for {length} tokens")

    def packed(self, cell: PackedCell) -> tuple[Run, Callable[[], None]]:
        """A pass over the cell, and what makes the next one possible."""
        rows = [
            TargetRow(session, CONTEXT, ids[CONTEXT : CONTEXT + count], 1, choose=True, sampling=sampling)
            for session, ids, count, sampling in zip(
                self._sessions, self._ids, cell.counts, self._sampling(), strict=False
            )
        ]

        def run() -> list[int]:
            return [token for choices in self.target.forward(rows) for token in choices.tokens]

        def reset() -> None:
            for row in rows:
                if self.target.cached(row.session) > CONTEXT:
                    self.target.keep(row.session, CONTEXT)
                self._admit(row.session, CONTEXT + len(row.tokens))

        return run, reset

    def padded(self, cell: PackedCell) -> tuple[Run, Callable[[], None]]:
        """Likewise. Padding stands to the right, where causality hides it: no mask is needed."""
        rows, longest = len(cell.counts), max(cell.counts)
        cache = self._own_cache()
        for index, layer in enumerate(self._cache.layers):
            cache.update(layer.keys[:rows].clone(), layer.values[:rows].clone(), index)
        ids = torch.zeros(rows, longest, dtype=torch.int64)
        for row, count in enumerate(cell.counts):
            ids[row, :count] = torch.tensor(self._ids[row][CONTEXT : CONTEXT + count])
        positions = torch.arange(CONTEXT, CONTEXT + longest).expand(rows, -1)
        wanted = torch.arange(longest) < torch.tensor(cell.counts)[:, None]
        params = [s for s, count in zip(self._sampling(), cell.counts, strict=False) for _ in range(count)]
        at = [CONTEXT + 1 + i for count in cell.counts for i in range(count)]

        @torch.inference_mode()
        def run() -> list[int]:
            logits = self._model(ids, position_ids=positions, past_key_values=cache, use_cache=True).logits
            return torch_rule.draw_rows(logits[wanted].float(), params, at)

        def reset() -> None:
            if (beyond := cache.get_seq_length() - CONTEXT) > 0:
                cache.crop(-beyond)

        return run, reset

    def _sampling(self) -> list[SamplingParams]:
        return [
            SamplingParams(seed=row, vocab=self._vocab, temperature=0.7, top_p=0.9)
            for row in range(len(self._sessions))
        ]


def texts(folder: Path, rows: int) -> list[list[int]]:
    """Ids of running text, a different passage of our own documentation for each row. [rows, CONTEXT + LONGEST]"""
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    pages = sorted((Path(__file__).resolve().parents[3] / "docs").glob("*.md"))
    ids: list[int] = tokenizer.encode("\n".join(page.read_text() for page in pages))
    length = CONTEXT + LONGEST
    step = (len(ids) - length) // rows
    if step < 1:
        raise ValueError(f"docs/ has {len(ids)} tokens, too few for {rows} passages of {length}")
    return [ids[row * step : row * step + length] for row in range(rows)]


def measure(sides: Sides, todo: list[PackedCell], repeats: int) -> list[dict[str, Any]]:
    """Interleaved timings of all cells, with the shares of the packed side."""
    runs = {cell: (sides.packed(cell), sides.padded(cell)) for cell in todo}
    seconds: dict[PackedCell, tuple[list[float], list[float]]] = {cell: ([], []) for cell in todo}
    agreed = {}
    for cell, (packed, padded) in runs.items():  # warm up, and see that both say the same
        pairs = zip(_drawn(*packed), _drawn(*padded), strict=True)
        agreed[cell] = float(np.mean([a == b for a, b in pairs]))
    for repeat in range(repeats):
        for cell, both in runs.items():
            for side in (0, 1) if repeat % 2 == 0 else (1, 0):
                run, reset = both[side]
                reset()
                begun = time.perf_counter()
                run()
                seconds[cell][side].append(time.perf_counter() - begun)
        print(f"  repeat {repeat + 1}/{repeats}", flush=True)
    return [
        {
            "cell": cell.name,
            **compared(*seconds[cell]),
            "agreed": agreed[cell],
            "shares": shares(sides, runs[cell][0]),
        }
        for cell in todo
    ]


def _drawn(run: Run, reset: Callable[[], None]) -> list[int]:
    reset()
    return run()


def compared(packed: list[float], padded: list[float]) -> dict[str, Any]:
    """Median milliseconds of both sides, and the median ratio with its 95 % bootstrap interval."""
    ratios = np.array(packed) / np.array(padded)
    draws = np.random.default_rng(0).integers(len(ratios), size=(4000, len(ratios)))
    low, high = np.percentile(np.median(ratios[draws], axis=1), [2.5, 97.5])
    return {
        "packed_ms": 1e3 * median(packed),
        "padded_ms": 1e3 * median(padded),
        "ratio": float(np.median(ratios)),
        "ratio_95": [float(low), float(high)],
        "repeats": len(ratios),
    }


def shares(sides: Sides, packed: tuple[Run, Callable[[], None]]) -> dict[str, float]:
    """Where a packed pass spends its time: linear layers (the head included), attention, sampling, rest."""
    run, reset = packed
    spent = {"linear": 0.0, "attention": 0.0, "sampling": 0.0}
    whole = 0.0
    with _stopwatches(sides.linears, spent):
        for _ in range(SHARE_PASSES):
            reset()
            begun = time.perf_counter()
            run()
            whole += time.perf_counter() - begun
    return {**{part: s / whole for part, s in spent.items()}, "rest": 1 - sum(spent.values()) / whole}


@contextmanager
def _stopwatches(linears: list[nn.Module], spent: dict[str, float]) -> Iterator[None]:
    """Times the calls that the parts consist of; a part within a part (the head's linear layer) counts once."""
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
        stack.enter_context(mock.patch.object(torch_target, "draw_rows", draw))
        yield


def summary(results: dict[str, Any]) -> str:
    """The results for people."""
    lines = [f"{results['cpu']}, {results['threads']} threads, torch {results['torch']}, context {CONTEXT}"]
    for name, measured in results["models"].items():
        lines += [
            "",
            name,
            f"{'rows x tokens':<14}{'packed ms':>10}{'padded ms':>11}   packed / padded (95 %)",
        ]
        lines[-1] += "    linear attention sampling rest"
        for cell in measured:
            low, high = cell["ratio_95"]
            lines.append(
                f"{cell['cell']:<14}{cell['packed_ms']:>10.1f}{cell['padded_ms']:>11.1f}"
                f"   {cell['ratio']:.3f} ({low:.3f} .. {high:.3f})      "
                + "  ".join(f"{share:>6.1%}" for share in cell["shares"].values())
            )
        worst = max(measured, key=lambda cell: cell["ratio"])
        agreed = min(cell["agreed"] for cell in measured)
        lines.append(
            f"worst ratio {worst['ratio']:.3f} ({worst['cell']}); tokens that agree: {agreed:.1%} or more"
        )
    return "\n".join(lines)


def cpu_name() -> str:
    """As the kernel calls it."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else None
    return found[1].strip() if found else platform.processor() or platform.machine()


def code_hash() -> str:
    """Of the verifier, so that results of other code are not taken for its own."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def main(argv: list[str] | None = None) -> None:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m cli.bench.verifier.packed")
    parser.add_argument(
        "--quick", action="store_true", help="SmolLM2 alone, few cells, three repeats, nothing kept"
    )
    parser.add_argument("--repeats", type=int, default=12)
    parser.add_argument("--threads", type=int, default=0, help="0 = torch's default")
    parser.add_argument("--models", type=Path, help="folder of models (default OUTRIDER_CACHE/models)")
    parser.add_argument("--out", type=Path, help="JSON file (default .outrider/bench-packed.json)")
    args = parser.parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    cache = Path(os.environ.get("OUTRIDER_CACHE", "~/.cache/outrider")).expanduser()
    cpu = cpu_name()
    about = {"cpu": cpu, "threads": torch.get_num_threads(), "torch": torch.__version__, "code": code_hash()}
    out = args.out or Path(".outrider/bench-packed.json")
    before = json.loads(out.read_text()) if out.is_file() and not args.quick else {}
    results = {**about, "models": before.get("models", {}) if about.items() <= before.items() else {}}
    wanted = ("smollm2",) if args.quick else tuple(MODELS)
    for model, dtype in [(one, dtype) for one in wanted for dtype in MODELS[one]]:
        folder, name = (args.models or cache / "models") / model / "target", f"{model} {dtype}"
        if not (folder / "config.json").is_file():
            print(f"{name}: not fetched, skipped ({folder})")
            continue
        if name in results["models"]:
            print(f"{name}: at hand in {out}")
            continue
        print(f"{name}:", flush=True)
        todo = cells(args.quick)
        sides = Sides(folder, dtype, rows=max(len(cell.counts) for cell in todo))
        results["models"][name] = measure(sides, todo, 3 if args.quick else args.repeats)
        if args.out or not args.quick:
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(json.dumps(results, indent=1) + "\n")
    print(summary(results))


if __name__ == "__main__":
    main()
