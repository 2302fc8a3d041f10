"""Cells of the sweep: one verifier with its devices, links and load, drawn at random and simulated under every arm."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from shared.planning.windows.sensors import FEATURES
from shared.scenario.scenario import checked
from simulator.scenario import SimulatedScenario

# Draft lengths that are simulated; costs of those between are interpolated.
ARMS: Final = (0, 1, 2, 4, 6, 10, 16)
REQUESTS: Final = 32  # of a cell, about
FULL_ROWS: Final = 24  # rows of a pass at load 1
RECORDED: Final = 0.5  # share of cells with recorded acceptance
CYCLIC: Final = 0.2  # share of cells whose batches are `cyclic-k`'s


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell. policy: who batches; rtt_ms, load: for reports."""

    number: int
    seed: int
    policy: str
    rtt_ms: float
    load: float
    fields: Mapping[str, Any]

    @property
    def scenario(self) -> SimulatedScenario:
        """The checked scenario."""
        return checked(SimulatedScenario, self.fields, f"cell {self.number}")

    @property
    def digest(self) -> str:
        """SHA-256 of all that a cell's results are made of, code aside."""
        (group,) = self.fields["devices"]
        named = group | {"recording": Path(group.get("recording", "")).name}
        inputs = [self.seed, self.policy, ARMS, FEATURES, {**self.fields, "devices": [named]}]
        return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def draw_cell(number: int, seed: int, recordings: tuple[Path, ...]) -> Cell:
    """Cell `number` of the sweep with this seed. Without recordings all cells have a modelled acceptance."""
    rng = np.random.default_rng([seed, number])
    beta_ms = _between(rng, 15, 90)
    per_token_ms = beta_ms * _between(rng, 0.004, 0.1)
    rtt_ms = _between(rng, 2, 320)
    draft_ms, uneven = _between(rng, 3, 30), rng.uniform(1, 2.4)
    alpha, prompt, answer = rng.uniform(0.45, 0.95), _between(rng, 16, 160), _between(rng, 24, 80)
    load = float(rng.uniform(0.2, 1.3))
    policy = "cyclic-k" if rng.random() < CYCLIC else "fixed-k"
    away_ms = rtt_ms + 4 * draft_ms * uneven
    tokens_per_ms = FULL_ROWS * expected_tokens(alpha, 4) / (away_ms + beta_ms + per_token_ms * 5 * FULL_ROWS)
    rate = load * 1e3 / (answer / tokens_per_ms + prompt * per_token_ms)
    device: dict[str, Any] = {
        "count": int(rng.integers(16, 49)),
        "draft": f"{draft_ms:.2f}..{draft_ms * uneven:.2f} ms",
        "link": {"delay": f"{rtt_ms / 2:.2f} ms", "jitter": f"{rng.uniform(0, 0.1) * rtt_ms / 2:.2f} ms"},
    }
    if recordings and rng.random() < RECORDED:
        device["recording"] = str(recordings[rng.integers(len(recordings))])
    else:
        device["alpha"] = f"{max(0.2, alpha - 0.1):.3f}..{min(0.98, alpha + 0.1):.3f}"
    fields = {
        "about": "a cell of `outrider train-awc`",
        "seed": number + 1,
        "devices": [device],
        "policies": ["fixed-k"],
        "core": {"server": _law(beta_ms, per_token_ms)},
        "load": {
            "rate": round(rate, 4),
            "duration": round(REQUESTS / rate, 3),
            "prompt-tokens": f"{0.6 * prompt:.0f}..{1.4 * prompt:.0f}",
            "answer-tokens": f"{0.6 * answer:.0f}..{1.4 * answer:.0f}",
            "ignore-eos": True,
        },
    }
    return Cell(number, seed, policy, rtt_ms, load, fields)


def expected_tokens(alpha: float, k: int) -> float:
    """Tokens of a round that drafts k, u(k) of DiP-SD."""
    return float((1 - alpha ** (k + 1)) / (1 - alpha))


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    """Log-uniform."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _law(beta_ms: float, per_token_ms: float) -> dict[str, Any]:
    return {
        "law": "packed",
        "beta_ms": round(beta_ms, 3),
        "per_token_ms": round(per_token_ms, 4),
        "per_context_ms": 0.003,
        "memory_bytes": 8e9,
        "kv_bytes_per_token": 12288.0,
    }
