"""Prompts we wrote ourselves, in several kinds; acceptance differs by kind."""

import json
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

CHARACTERS: Final = 4.0  # of a token, about


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
    """Chat requests for so many users (the set repeats): id, prompt, temperature, top_p, seed.

    Chosen so that no decision of the demo model in 64 tokens is near a tie (tests/exactness/choose.py).
    """
    cases: list[dict[str, Any]] = json.loads(files(__name__).joinpath("demo.json").read_text())
    return [{**cases[i % len(cases)], "id": f"user-{i + 1}"} for i in range(users)]


def steady(number: int, tokens: int) -> str:
    """A sentence said again and again, about so many tokens long: a prompt whose continuation leaves no doubt.

    Models go on repeating it with wide margins, so its text is the same in bfloat16 and however it is batched.
    """
    lines = files(__name__).joinpath("steady.txt").read_text().splitlines()
    line = lines[number % len(lines)]
    again = max(2, round(tokens / (len(line) / CHARACTERS)))
    return (line + "\n") * again
