"""The bundled prompts, of several kinds: acceptance differs by kind."""

import json
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

CHARACTERS: Final = 4.0  # per token, about


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt of the bundled set. kind: code, maths, chat, summary or creative."""

    id: str
    kind: str
    prompt: str


def bundled() -> list[Prompt]:
    """The whole set, in its fixed order."""
    text = files(__name__).joinpath("bundled.jsonl").read_text()
    return [Prompt(**json.loads(line)) for line in text.splitlines() if line]


def demo_cases(users: int) -> list[dict[str, Any]]:
    """Chat requests for `users` users (the set repeats): id, prompt, temperature, top_p, seed.

    They are chosen so that no token of the demo model's first 64 is near a tie (tests/exactness/choose.py).
    """
    cases: list[dict[str, Any]] = json.loads(files(__name__).joinpath("demo.json").read_text())
    return [{**cases[i % len(cases)], "id": f"user-{i + 1}"} for i in range(users)]


def steady(number: int, tokens: int) -> str:
    """A repeated sentence of about `tokens` tokens: a prompt with an unambiguous continuation.

    Models repeat it with wide margins, so the text is the same in bfloat16 and in any batch.
    """
    lines = files(__name__).joinpath("steady.txt").read_text().splitlines()
    line = lines[number % len(lines)]
    repeats = max(2, round(tokens / (len(line) / CHARACTERS)))
    return (line + "\n") * repeats
