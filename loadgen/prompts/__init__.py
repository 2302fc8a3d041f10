"""Prompts we wrote ourselves, in several kinds; acceptance differs by kind."""

import json
from dataclasses import dataclass
from importlib.resources import files


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
