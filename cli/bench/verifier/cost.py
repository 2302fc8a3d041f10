"""Cost of a verification pass on this device, and its lower bound from memory bandwidth and arithmetic rate."""

import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf
from statistics import median
from typing import Any, Final

import numpy as np
import torch
from transformers import AutoModelForCausalLM, Qwen3Config

from loadgen.measuring.fixed_pass import FixedPass
from loadgen.measuring.timing import times_s
from services.verifier.families import AttentionShape, shape_of
from services.verifier.loading import random_target
from services.verifier.torch_target import TorchTarget
from shared.speculative.params import SamplingParams
from shared.speculative.torch_rule import draw_rows

PAGE: Final = 16
WARM_UPS: Final = 2
REPEATS: Final = 9
CELL_S: Final = 4.0  # a cell stops repeating after so long, but not before three repeats
RESERVE: Final = 4 << 30  # bytes kept for activations, gathered caches and logits
DTYPE_BYTES: Final = 2  # bfloat16


@dataclass(frozen=True, slots=True)
class CostCell:
    """A batch: rows × new tokens each, every row with `context` tokens cached."""

    rows: int
    tokens: int
    context: int

    @property
    def kv_tokens(self) -> int:
        """Cache it needs, in whole pages."""
        return self.rows * -(-(self.context + self.tokens) // PAGE) * PAGE


CELLS: Final = tuple(
    CostCell(rows, tokens, context)
    for context in (512, 4096)
    for rows in (1, 4, 16, 64)
    for tokens in (1, 4, 8)
)
SMOKE_CELLS: Final = tuple(CostCell(rows, tokens, 48) for rows in (1, 4) for tokens in (1, 4))


def qwen3(hidden: int, intermediate: int, layers: int, heads: int, vocab: int = 151936) -> Any:
    """A Qwen3 configuration: heads of 128, eight of them for keys and values."""
    return Qwen3Config(
        vocab_size=vocab,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=min(8, heads),
        head_dim=128,
        max_position_embeddings=40960,
        tie_word_embeddings=False,
    )


def models(smoke: bool) -> dict[str, Any]:
    """Configurations to be measured, smallest first."""
    if smoke:
        return {"tiny": qwen3(hidden=64, intermediate=128, layers=2, heads=4, vocab=2048)}
    return {
        "Qwen3-8B": qwen3(hidden=4096, intermediate=12288, layers=36, heads=32),
        "Qwen3-32B": qwen3(hidden=5120, intermediate=25600, layers=64, heads=64),
    }


@dataclass(frozen=True, slots=True)
class Rates:
    """What the device does at its best, measured: bytes/s read plus written by a copy, operations/s of a matmul."""

    copy_bytes_s: float
    matmul_flop_s: float


@dataclass(frozen=True, slots=True)
class PassWork:
    """A model's share of the floor. parameters: all that a pass reads, so without the input embedding."""

    shape: AttentionShape
    parameters: int
    resident: int  # parameters in memory, the input embedding included

    @classmethod
    def of(cls, config: Any) -> "PassWork":
        """Counted on a model without storage."""
        with torch.device("meta"):
            factory: Any = AutoModelForCausalLM
            model = factory.from_config(config, dtype=torch.bfloat16)
        resident = sum(parameter.numel() for parameter in model.parameters())
        return cls(shape_of(config), resident - config.vocab_size * config.hidden_size, resident)

    @property
    def kv_bytes(self) -> int:
        """Per cached token."""
        return self.shape.kv_bytes(DTYPE_BYTES)

    def bytes_needed(self, cell: CostCell) -> int:
        """Weights, cache and working memory."""
        return self.resident * DTYPE_BYTES + cell.kv_tokens * self.kv_bytes + RESERVE

    def floor_s(self, cell: CostCell, rates: Rates) -> tuple[float, float]:
        """(memory, compute): weights and caches read once; products of weights, scores and values."""
        cached = cell.rows * (cell.context + cell.tokens)
        new = cell.rows * cell.tokens
        read = self.parameters * DTYPE_BYTES + cached * self.kv_bytes
        attention = 4 * self.shape.layers * self.shape.heads * self.shape.head_dim * cell.tokens * cached
        return read / rates.copy_bytes_s, (2 * self.parameters * new + attention) / rates.matmul_flop_s


def device_times_s(
    run: Callable[[], object],
    device: str,
    repeats: int,
    *,
    warm_ups: int = 1,
    reset: Callable[[], object] = lambda: None,
    limit_s: float = inf,
) -> list[float]:
    """Seconds of each call, the device idle before and after it."""
    wait: Callable[[], object] = torch.cuda.synchronize if device == "cuda" else lambda: None
    return times_s(
        lambda: (run(), wait()), repeats, warm_ups=warm_ups, reset=lambda: (reset(), wait()), limit_s=limit_s
    )


def measure_rates(device: str, smoke: bool) -> Rates:
    """Copies of 1 GiB and bfloat16 products of 8192 × 8192 (smoke: small ones)."""
    size, width = (1 << 22, 256) if smoke else (1 << 30, 8192)
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    copy = torch.empty_like(source)
    a = torch.randn(width, width, device=device).bfloat16()
    return Rates(
        2 * size / min(device_times_s(lambda: copy.copy_(source), device, 10)),
        2 * width**3 / min(device_times_s(lambda: a @ a, device, 10)),
    )


def measure_sampling(device: str, smoke: bool) -> Iterator[dict[str, Any]]:
    """The draw alone, over logits like a language model's and over flat ones, where the bucket always wins."""
    vocab = 2048 if smoke else 151936
    for n in (1, 8) if smoke else (1, 16, 64, 512):
        generator = torch.Generator(device).manual_seed(n)
        flat = torch.randn(n, vocab, device=device, generator=generator)
        peaked = flat * 2.5
        peaked[:, :50] += 12 * torch.rand(n, 50, device=device, generator=generator)
        for name, logits, temperature, top_p in (
            ("temperature 0", peaked, 0.0, 1.0),
            ("temperature 0.7, top-p 0.9", peaked, 0.7, 0.9),
            ("temperature 1, flat", flat, 1.0, 1.0),
        ):
            params = [SamplingParams(i, vocab, temperature, top_p=top_p) for i in range(n)]
            run = partial(draw_rows, logits, params, [9] * n)
            yield {
                "rows": n,
                "sampling": name,
                "ms": 1e3 * median(device_times_s(run, device, 5)),
            }


def cost_law(
    config: Any,
    device: str,
    cells: Sequence[CostCell],
    rates: Rates,
    memory: int,
    left_s: Callable[[], float],
) -> Iterator[dict[str, Any]]:
    """One result per cell: milliseconds beside the floor, or why it was skipped. memory: bytes there are."""
    work = PassWork.of(config)
    results = {cell: _described(cell, work, rates) for cell in cells}
    fitting = [cell for cell in cells if work.bytes_needed(cell) <= memory]
    for cell in set(cells) - set(fitting):
        results[cell]["skipped"] = f"needs {results[cell]['bytes_needed']} bytes, there are {memory}"
    target = None
    try:
        for cell in cells:
            if cell in fitting and left_s() < _expected_s(results[cell], work, target is None):
                results[cell]["skipped"] = "no time left"
            elif cell in fitting:
                target = target or _filled_target(config, device, max(c.kv_tokens for c in fitting))
                results[cell].update(_measured(target, device, cell, results[cell]["floor_ms"]))
            yield results[cell]
    finally:
        del target
        gc.collect()
        if device == "cuda":
            torch.cuda.empty_cache()


def fitted(results: Sequence[dict[str, Any]]) -> dict[str, float] | None:
    """ms = fixed_ms + per_token_ms · new tokens + per_cached_ms · cached tokens, least relative squares."""
    cells = [r for r in results if "ms" in r]
    if len(cells) < 4:
        return None
    ms = np.array([r["ms"] for r in cells])
    terms = np.array([[1.0, r["rows"] * r["tokens"], r["rows"] * r["context"]] for r in cells])
    (fixed, per_token, per_cached), *_ = np.linalg.lstsq(terms / ms[:, None], np.ones(len(cells)), rcond=None)
    off = np.abs(terms @ np.array([fixed, per_token, per_cached]) / ms - 1)
    return {
        "fixed_ms": float(fixed),
        "per_token_ms": float(per_token),
        "per_cached_token_ms": float(per_cached),
        "worst_relative_error": float(off.max()),
    }


def _described(cell: CostCell, work: PassWork, rates: Rates) -> dict[str, Any]:
    memory_s, compute_s = work.floor_s(cell, rates)
    return {
        "rows": cell.rows,
        "tokens": cell.tokens,
        "context": cell.context,
        "bytes_needed": work.bytes_needed(cell),
        "floor_memory_ms": 1e3 * memory_s,
        "floor_compute_ms": 1e3 * compute_s,
        "floor_ms": 1e3 * max(memory_s, compute_s),
    }


def _expected_s(result: dict[str, Any], work: PassWork, build: bool) -> float:
    """A cautious guess of a cell's seconds, building the model (at 2 GB/s) included."""
    passes: float = min(CELL_S, 1e-3 * result["floor_ms"] * 5 * REPEATS) + 1.0
    return passes + (10.0 + work.resident * DTYPE_BYTES / 2e9 if build else 0.0)


def _filled_target(config: Any, device: str, kv_tokens: int) -> TorchTarget:
    """Random weights, and noise in every page: a context that no minutes of prefill were spent on."""
    target = random_target(
        config,
        dtype=torch.bfloat16,
        device=device,
        kv_tokens=kv_tokens,
        page_tokens=PAGE,
        prefix_sharing=False,
    )
    target.fill_with_noise()
    return target


def _measured(target: TorchTarget, device: str, cell: CostCell, floor_ms: float) -> dict[str, Any]:
    """Warm up, then time whole passes as the verifier runs them: packing, model, head, draw, wait."""
    sessions = [f"s{i}" for i in range(cell.rows)]
    tokens = [(101 * i) % target.vocab for i in range(1, cell.tokens + 1)]

    def sampling(row: int) -> SamplingParams:
        return SamplingParams(seed=row, vocab=target.vocab, temperature=0.7, top_k=50)

    try:
        for session in sessions:
            if not target.admit(session, (), sessions, cell.context + cell.tokens):
                raise RuntimeError(f"no pages for {cell}")
            target.keep(session, cell.context)
        one = FixedPass(target, sessions, [tokens] * cell.rows, cell.context, sampling)
        seconds = device_times_s(one.run, device, REPEATS, warm_ups=WARM_UPS, reset=one.reset, limit_s=CELL_S)
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return {"skipped": "out of memory"}
    finally:
        for session in sessions:
            target.forget(session)
    ms = [1e3 * s for s in seconds]
    return {
        "ms": median(ms),
        "ms_min": min(ms),
        "ms_max": max(ms),
        "repeats": len(ms),
        "over_floor": median(ms) / floor_ms,
    }
