"""How often packed verification says another token than a plain loop, given the same text before it.

    python -m cli.bench.drift [--model NAME] [--dtype bfloat16] [--tokens 64]

In float32 never. In bfloat16 rounding depends on how many rows go through a matrix product together, so that a
near tie may fall otherwise: this is the rate. The plain loop (transformers alone, a token at a time) writes a text for
every prompt and temperature; then eight sessions at once verify these texts as their own drafts, at random lengths.
Each choice is compared with the loop's own at that position, so one difference is one difference.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from cli.command.errors import ModelError
from cli.models import measure
from cli.models.measure import Sample
from cli.models.resolve import resolve
from shared.compute.target import TargetModel, TargetRow

TEMPERATURES: Final = (0.0, 0.7, 1.0)
TOGETHER: Final = 8
LONGEST: Final = 8


@dataclass(slots=True)
class DriftSession:
    """One session that verifies a given text. at: how much of it is committed."""

    name: str
    sample: Sample
    at: int
    different: int = 0

    @property
    def ids(self) -> list[int]:
        """Prompt and text."""
        return [*self.sample.prompt, *self.sample.text]


def differing(target: TargetModel, samples: Sequence[Sample]) -> list[int]:
    """For each sample how many of its tokens the target would have said otherwise, TOGETHER sessions at a time."""
    lengths = np.random.default_rng(1)
    sessions = [DriftSession(f"s{i}", sample, len(sample.prompt)) for i, sample in enumerate(samples)]
    for begin in range(0, len(sessions), TOGETHER):
        group = sessions[begin : begin + TOGETHER]
        while live := [session for session in group if session.at < len(session.ids)]:
            verify(target, live, [int(lengths.integers(LONGEST + 1)) for _ in live])
        for session in group:
            target.forget(session.name)
    return [session.different for session in sessions]


def verify(target: TargetModel, live: Sequence[DriftSession], lengths: Sequence[int]) -> None:
    """One pass: each session drafts the next tokens of its own text, and one more is chosen."""
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


def main() -> None:
    """Command line; see the module's docstring."""
    from services.verifier.loading import load_target  # heavy; after --help

    parser = argparse.ArgumentParser(description="The rate of tokens that differ from a plain loop's.")
    parser.add_argument("--model", default="smollm2", help="as for `outrider up --target`")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--tokens", type=int, default=64, help="of each text at most")
    args = parser.parse_args()
    try:
        folder, _, _ = resolve(args.model)
    except ModelError as error:
        sys.exit(str(error))
    samples = measure.samples(folder, args.tokens, TEMPERATURES, args.dtype)
    target: Any = load_target(str(folder), dtype=args.dtype, device="cpu", kv_tokens=TOGETHER * 1024)
    counts = differing(target, samples)
    for temperature in TEMPERATURES:
        mine = [i for i, sample in enumerate(samples) if sample.params.temperature == temperature]
        report(f"temperature {temperature}", [samples[i] for i in mine], [counts[i] for i in mine])
    report(f"{args.model} in {args.dtype}", samples, counts)


def report(title: str, samples: Sequence[Sample], counts: Sequence[int]) -> None:
    """One line."""
    tokens, different = sum(len(sample.text) for sample in samples), sum(counts)
    print(f"{title}: {different} of {tokens} tokens differ ({different / tokens:.2%})")


if __name__ == "__main__":
    main()
