"""Sources of prompts: the bundled set, a file, or synthetic token ids of an exact length."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import numpy as np

from loadgen.prompts import bundled
from loadgen.workload.trace import BLOCK

FIRST_ID: Final = 100  # lower ids are special tokens in many vocabularies
LAST_ID: Final = 10_000  # vocabularies in use are larger


class PromptError(ValueError):
    """A file of prompts that cannot be read; the text names file, line and field."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A prompt: text or token ids. max_tokens: of its answer if the file gives it, else 0."""

    kind: str
    prompt: str | tuple[int, ...]
    max_tokens: int = 0


class Prompts(Protocol):
    """A source of prompts."""

    def draw(self, rng: np.random.Generator, tokens: int, blocks: Sequence[int]) -> Drawn:
        """The next prompt. tokens: its length; blocks: a trace's hash_ids. A set of texts ignores both."""
        ...


class Texts:
    """A set of texts, in random order without repeats until all were used."""

    def __init__(self, texts: Sequence[Drawn]) -> None:
        self._texts = texts
        self._left: list[int] = []

    def draw(self, rng: np.random.Generator, tokens: int, blocks: Sequence[int]) -> Drawn:
        """The next text of the shuffled set."""
        if not self._left:
            self._left = rng.permutation(len(self._texts)).tolist()
        return self._texts[self._left.pop()]


class Synthetic:
    """Random token ids, exactly as many as requested. Equal blocks of a trace give equal ids."""

    def draw(self, rng: np.random.Generator, tokens: int, blocks: Sequence[int]) -> Drawn:
        """`tokens` ids, those of `blocks` first."""
        ids: list[int] = []
        for block in blocks[: tokens // BLOCK]:
            ids += _ids(np.random.default_rng([block & 0xFFFFFFFF, 1]), BLOCK)
        return Drawn("synthetic", tuple(ids + _ids(rng, tokens - len(ids))))


def of_kinds(kinds: Collection[str] = ()) -> Texts:
    """The bundled set, or only some kinds of it. Raises PromptError."""
    known = sorted({prompt.kind for prompt in bundled()})
    if missing := sorted(set(kinds) - set(known)):
        raise PromptError(
            f"no bundled prompts of kind {', '.join(missing)}; the kinds are {', '.join(known)}"
        )
    return Texts([Drawn(p.kind, p.prompt) for p in bundled() if not kinds or p.kind in kinds])


def of_file(path: Path) -> Texts:
    """Prompts from JSON lines with `prompt` and optionally `kind` and `max_tokens`. Raises PromptError, OSError."""
    texts = [
        _read(f"{path}, line {number}", line)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if line.strip()
    ]
    if not texts:
        raise PromptError(f"{path}: no prompts")
    return Texts(texts)


def _read(where: str, line: str) -> Drawn:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise PromptError(f"{where}: not JSON: {error}") from None
    prompt = row.get("prompt") if isinstance(row, dict) else None
    if not isinstance(prompt, str) or not prompt:
        raise PromptError(f"{where}: no text in `prompt`")
    tokens = row.get("max_tokens", 0)
    if type(tokens) is not int or tokens < 0:
        raise PromptError(f"{where}: max_tokens is {tokens!r}, not a number of tokens")
    return Drawn(str(row.get("kind", "file")), prompt, tokens)


def _ids(rng: np.random.Generator, count: int) -> list[int]:
    drawn: list[int] = rng.integers(FIRST_ID, LAST_ID, size=count).tolist()
    return drawn
