"""What the target says to a scenario's prompts, from transformers' own generation; kept, since it takes minutes."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cli.baseline import Baseline
from loadgen.prompts import steady
from shared.protocol.vocabulary import vocabulary_of_tokenizer_json

TEXTS: Final = 18  # as many as there are sentences


@dataclass(frozen=True, slots=True)
class Recording:
    """Prompts, and where the texts are. texts: whole, ids of prompt and continuation; by prompt."""

    prompts: tuple[str, ...]
    file: Path
    texts: tuple[tuple[int, ...], ...]


def prompts_of(users: int, tokens: int) -> tuple[str, ...]:
    """At least as many as there are users, all different."""
    count = max(users, TEXTS)
    return tuple(steady(n, tokens + 24 * (n // TEXTS)) for n in range(count))


async def record(
    rival: Baseline, target: Path, dtype: str, prompts: Sequence[str], tokens: int, state_dir: Path
) -> Recording:
    """The texts, from an earlier run if it asked for the same."""
    asked = json.dumps([str(target.resolve()), dtype, tokens, list(prompts)])
    file = state_dir / "recordings" / f"{hashlib.sha256(asked.encode()).hexdigest()[:16]}.json"
    if not file.is_file():
        done = await rival.ask({"prompts": list(prompts), "tokens": tokens, "raw": True})
        write_texts(file, done.texts, target)
    texts = json.loads(file.read_text())["texts"]
    return Recording(tuple(prompts), file, tuple(tuple(text) for text in texts))


def write_texts(file: Path, texts: Sequence[Sequence[int]], target: Path) -> None:
    """Texts for services/draft_worker/fleet.py, whole: ids of prompt and continuation. target: whose they are."""
    vocabulary = vocabulary_of_tokenizer_json(target / "tokenizer.json")
    data = {"texts": texts, "vocabulary": vocabulary.hash, "vocab": vocabulary.size}
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".part")
    partial.write_text(json.dumps(data))
    partial.replace(file)
