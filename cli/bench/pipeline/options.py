"""What `outrider bench pipeline` compares: its lists, checked, and their product as cells."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from cli.command.errors import CommandError
from shared.planning.pieces import PipelineLaw, StageLaw
from simulator.pipeline.acceptance import LOWEST
from simulator.pipeline.laws import LAWS

MAX_STAGES: Final = 64
MAX_USERS: Final = 64


class LawFile(BaseModel):
    """A law of one's own, in ms. beta_ms, per_token_ms: of each stage. See PipelineLaw for the others."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    beta_ms: list[float] = Field(min_length=1, max_length=MAX_STAGES)
    per_token_ms: list[float]
    hop_ms: float = Field(ge=0)
    draft_ms: float = Field(ge=0)
    draft_row_ms: float = Field(default=0.0, ge=0)
    wire_ms: float = Field(default=0.0, ge=0)
    head_ms: float = Field(default=0.0, ge=0)
    head_row_ms: float = Field(default=0.0, ge=0)

    @model_validator(mode="after")
    def _stages(self) -> "LawFile":
        if len(self.per_token_ms) != len(self.beta_ms):
            raise ValueError(
                f"per_token_ms has {len(self.per_token_ms)} stages, beta_ms has {len(self.beta_ms)}"
            )
        if min(*self.beta_ms, *self.per_token_ms) <= 0:
            raise ValueError("beta_ms and per_token_ms must be above 0 for every stage")
        return self

    def law(self) -> PipelineLaw:
        """As the simulation takes it."""
        stages = tuple(StageLaw(*pair) for pair in zip(self.beta_ms, self.per_token_ms, strict=True))
        head = StageLaw(self.head_ms, self.head_row_ms)
        return PipelineLaw(stages, self.hop_ms, self.wire_ms, self.draft_ms, head, self.draft_row_ms)


@dataclass(frozen=True, slots=True)
class Cell:
    """One pipeline with its users. name: of the law, or its file's without folders."""

    name: str
    law: PipelineLaw
    p1: float
    users: int

    def place(self, seed: int) -> dict[str, Any]:
        """The fields of a result that say what was measured."""
        return {
            "law": self.name,
            "beta_ms": [stage.beta_ms for stage in self.law.stages],
            "per_token_ms": [stage.per_token_ms for stage in self.law.stages],
            "stages": len(self.law.stages),
            "hop_ms": self.law.hop_ms,
            "p1": self.p1,
            "users": self.users,
            "seed": seed,
        }


def numbers(option: str, text: str, low: float, high: float) -> list[float]:
    """A comma list of numbers within [low, high]. Raises CommandError."""
    try:
        found = [float(word) for word in text.split(",")]
    except ValueError:
        raise CommandError(f"--{option} {text!r}: give numbers, separated by commas") from None
    if not all(low <= number <= high for number in found):
        raise CommandError(f"--{option} {text!r}: give numbers from {low:g} to {high:g}")
    return list(dict.fromkeys(found))


def whole_numbers(option: str, text: str, low: int, high: int) -> list[int]:
    """A comma list of whole numbers within [low, high]. Raises CommandError."""
    found = numbers(option, text, low, high)
    if any(number != int(number) for number in found):
        raise CommandError(f"--{option} {text!r}: give whole numbers")
    return [int(number) for number in found]


def names(option: str, text: str, known: Sequence[str]) -> list[str]:
    """A comma list of known names. Raises CommandError."""
    found = [word.strip() for word in text.split(",")]
    for name in found:
        if name not in known:
            raise CommandError(f"--{option}: {name!r} is none of {', '.join(known)}")
    return list(dict.fromkeys(found))


def cells(law: str, stages: str, hop_ms: str, p1: str, users: str) -> list[Cell]:
    """The product of the lists. A law that is a file brings its own stages and hop. Raises CommandError."""
    rates = numbers("p1", p1, LOWEST + 0.01, 0.99)
    counts = whole_numbers("users", users, 1, MAX_USERS)
    lengths = whole_numbers("stages", stages, 1, MAX_STAGES)
    hops = numbers("hop-ms", hop_ms, 0.0, 10_000.0)
    found = []
    for name in dict.fromkeys(word.strip() for word in law.split(",")):
        for shown, one in _laws(name, lengths, hops):
            found += [Cell(shown, one, rate, count) for rate, count in product(rates, counts)]
    return found


def _laws(name: str, lengths: Sequence[int], hops: Sequence[float]) -> Iterator[tuple[str, PipelineLaw]]:
    make: Callable[[int, float], PipelineLaw] | None = LAWS.get(name)
    if make is not None:
        yield from ((name, make(length, hop)) for length, hop in product(lengths, hops))
    elif name.endswith(".json"):
        yield Path(name).stem, read_law(Path(name))
    else:
        raise CommandError(f"--law: {name!r} is none of {', '.join(LAWS)}, and not the name of a .json file")


def read_law(path: Path) -> PipelineLaw:
    """Read a law file. Raises CommandError with the field and what is wrong with it."""
    try:
        return LawFile.model_validate(json.loads(path.read_text(encoding="utf-8"))).law()
    except OSError as error:
        raise CommandError(f"--law {path}: {error.strerror}") from None
    except json.JSONDecodeError as error:
        raise CommandError(f"--law {path}: no JSON: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise CommandError(f"--law {path}: {where}: {first['msg'].removeprefix('Value error, ')}") from None
