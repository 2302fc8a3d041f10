"""How often packed verification chooses another token than a plain loop, given the same text before it.

    python -m cli.bench.drift [--model NAME] [--dtype bfloat16] [--tokens 64]

In float32 they never differ. In bfloat16 rounding depends on the number of rows in a matrix product, which can decide
a near tie. The plain loop (transformers alone, one token at a time) generates a text for every prompt and temperature.
Then eight sessions at once verify these texts as their own drafts, in drafts of random length. Each choice is compared
with the plain loop's at that position, so differences do not accumulate.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from rich.console import Console

from cli.command.bench_main import bench_main
from cli.models import measure
from cli.models.measure import Sample
from cli.models.resolve import resolve
from loadgen.measuring.progress import Steps
from shared.compute.target import TargetModel, TargetRow

TEMPERATURES: Final = (0.0, 0.7, 1.0)
SESSIONS: Final = 8
MAX_DRAFT: Final = 8


@dataclass(slots=True)
class DriftSession:
    """A session that verifies a given text. at: committed tokens, prompt included. different: differing tokens."""

    name: str
    sample: Sample
    at: int
    different: int = 0

    @property
    def ids(self) -> list[int]:
        """Prompt and text."""
        return [*self.sample.prompt, *self.sample.text]


def differing(target: TargetModel, samples: Sequence[Sample]) -> list[int]:
    """Number of tokens per sample for which the target chooses another one. SESSIONS sessions share each pass."""
    lengths = np.random.default_rng(1)
    sessions = [DriftSession(f"s{i}", sample, len(sample.prompt)) for i, sample in enumerate(samples)]
    for begin in range(0, len(sessions), SESSIONS):
        group = sessions[begin : begin + SESSIONS]
        while live := [session for session in group if session.at < len(session.ids)]:
            verify(target, live, [int(lengths.integers(MAX_DRAFT + 1)) for _ in live])
        for session in group:
            target.forget(session.name)
    return [session.different for session in sessions]


def verify(target: TargetModel, live: Sequence[DriftSession], lengths: Sequence[int]) -> None:
    """Run one pass in which each session drafts the next tokens of its own text. lengths: of the drafts."""
    names = [session.name for session in live]
    rows = []
    for session, length in zip(live, lengths, strict=True):
        draft = session.ids[session.at : min(session.at + length, len(session.ids) - 1)]
        if not target.admit(session.name, session.sample.prompt, names, session.at + len(draft)):
            raise RuntimeError(f"{session.name}: no pages")
        start = target.cached(session.name)
        tokens = (*session.ids[start : session.at], *draft)
        rows.append(TargetRow(session.name, start, tokens, session.at - start, True, session.sample.params))
    for session, row, choices in zip(live, rows, target.forward(rows), strict=True):
        own = session.ids[session.at : session.at + len(choices.tokens)]
        session.different += sum(a != b for a, b in zip(choices.tokens, own, strict=True))
        fed = row.start + len(row.tokens)
        target.keep(session.name, fed)
        session.at = fed + 1


def main(model: str = "smollm2", dtype: str = "bfloat16", tokens: int = 64) -> None:
    """The rate of tokens that differ from a plain loop's. tokens: maximum length of each text."""
    folder, _, _ = resolve(model)
    with Steps(Console()) as steps:
        step = steps.step("texts of the plain loop", len(TEMPERATURES) * len(measure.PROMPTS))
        samples = measure.samples(folder, tokens, TEMPERATURES, dtype, tick=step.advance)
    from services.verifier.loading import load_target  # heavy

    target: Any = load_target(str(folder), dtype=dtype, device="cpu", kv_tokens=SESSIONS * 1024)
    counts = differing(target, samples)
    for temperature in TEMPERATURES:
        at = [i for i, sample in enumerate(samples) if sample.params.temperature == temperature]
        report(f"temperature {temperature}", [samples[i] for i in at], [counts[i] for i in at])
    report(f"{model} in {dtype}", samples, counts)


def report(title: str, samples: Sequence[Sample], counts: Sequence[int]) -> None:
    """Print the rate of some samples as one line."""
    tokens, different = sum(len(sample.text) for sample in samples), sum(counts)
    print(f"{title}: {different} of {tokens} tokens differ ({different / tokens:.2%})")


if __name__ == "__main__":
    bench_main(main)
