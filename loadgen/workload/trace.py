"""Reads recorded traffic: Mooncake's JSONL, and the CSV of Azure and BurstGPT, recognised by their columns."""

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Final


class TraceError(ValueError):
    """A trace that cannot be read; the text names file, line and column."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One recorded request. at: seconds from the first; prompt, answer: tokens.

    blocks: Mooncake's hash_ids, one per 512 tokens of the prompt; equal ids stand for equal text.
    """

    at: float
    prompt: int
    answer: int
    blocks: tuple[int, ...] = ()


Row = Mapping[str, Any]
BLOCK: Final = 512  # tokens of one of Mooncake's hash_ids


def read_trace(path: Path, time_scale: float = 1.0) -> list[Arrival]:
    """All arrivals in order, the first at 0. time_scale: factor on the times. Raises TraceError, OSError."""
    if not time_scale > 0:
        raise TraceError(f"a time scale of {time_scale}: it must be more than 0")
    found = [_checked(path, line, read, row) for line, read, row in _rows(path)]
    if not found:
        raise TraceError(f"{path}: no requests")
    first = found[0].at
    shifted = [Arrival((a.at - first) * time_scale, a.prompt, a.answer, a.blocks) for a in found]
    for number, (before, after) in enumerate(pairwise(shifted), 2):
        if after.at < before.at:
            raise TraceError(f"{path}: request {number} is earlier than the one before it")
    return shifted


def _rows(path: Path) -> Iterator[tuple[int, Callable[[Row], Arrival], Row]]:
    """Yields the line number, the parser of the row, and the row."""
    with path.open(encoding="utf-8", newline="") as file:
        if file.read(1) == "{":
            file.seek(0)
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, _mooncake, _json(path, number, line)
            return
        file.seek(0)
        table = csv.DictReader(file)
        columns = set(table.fieldnames or ())
        for needed, read in _TABLES.items():
            if set(needed) <= columns:
                for row in table:
                    yield table.line_num, read, row
                return
        known = "; ".join(", ".join(needed) for needed in _TABLES)
        raise TraceError(f"{path}: unknown columns {', '.join(sorted(columns)) or '(none)'}; known: {known}, "
                         "and JSON lines with timestamp, input_length, output_length, hash_ids")  # fmt: skip


def _json(path: Path, number: int, line: str) -> Row:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise TraceError(f"{path}, line {number}: not JSON: {error}") from None
    if not isinstance(row, dict):
        raise TraceError(f"{path}, line {number}: not a JSON object")
    return row


def _checked(path: Path, line: int, read: Callable[[Row], Arrival], row: Row) -> Arrival:
    try:
        arrival = read(row)
    except KeyError as error:
        raise TraceError(f"{path}, line {line}: column {error} is missing") from None
    except (TypeError, ValueError) as error:
        raise TraceError(f"{path}, line {line}: {error}") from None
    if arrival.prompt < 1 or arrival.answer < 0:
        raise TraceError(
            f"{path}, line {line}: {arrival.prompt} prompt and {arrival.answer} answer tokens: not a request"
        )
    return Arrival(arrival.at, arrival.prompt, max(1, arrival.answer), arrival.blocks)


def _mooncake(row: Row) -> Arrival:
    blocks = tuple(int(block) for block in row.get("hash_ids", ()))
    return Arrival(
        float(row["timestamp"]) / 1000, int(row["input_length"]), int(row["output_length"]), blocks
    )


def _azure(row: Row) -> Arrival:
    stamp, _, fraction = str(row["TIMESTAMP"]).partition(".")  # with seven digits, more than datetime reads
    digits = fraction.split("+")[0]
    at = datetime.fromisoformat(stamp + "+00:00").timestamp() + (float(f"0.{digits}") if digits else 0.0)
    return Arrival(at, int(row["ContextTokens"]), int(row["GeneratedTokens"]))


def _burstgpt(row: Row) -> Arrival:
    return Arrival(float(row["Timestamp"]), int(row["Request tokens"]), int(row["Response tokens"]))


_TABLES: Final[dict[tuple[str, ...], Callable[[Row], Arrival]]] = {
    ("TIMESTAMP", "ContextTokens", "GeneratedTokens"): _azure,
    ("Timestamp", "Request tokens", "Response tokens"): _burstgpt,
}
