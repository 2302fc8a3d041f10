"""Requests as JSON lines beside the result file, with times in seconds from the run's start."""

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from loadgen.request import ChatRequest, Chunk, Record
from loadgen.results.output import replacing

CSV_COLUMNS: Final = (
    "id",
    "kind",
    "group",
    "scheduled",
    "sent",
    "first",
    "ended",
    "prompt_tokens",
    "tokens",
    "drafted",
    "accepted",
    "fault",
)


def row(record: Record, start: float) -> dict[str, Any]:
    """A record without its texts. chunks: time, tokens and accepted drafts of every piece."""
    request = record.request
    return {
        "id": request.id,
        "kind": request.kind,
        "group": request.group,
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "seed": request.seed,
        "scheduled": round(record.scheduled - start, 6),
        "sent": round(record.sent - start, 6),
        "first": round(record.chunks[0].at - start, 6) if record.chunks else None,
        "ended": round(record.ended - start, 6),
        "prompt_tokens": record.prompt_tokens,
        "tokens": record.count,
        "drafted": record.drafted_tokens,
        "accepted": record.accepted_tokens,
        "rounds": record.rounds,
        "retries": record.retries,
        "finish": record.finish,
        "fault": record.fault,
        "error": record.error,
        "chunks": [[round(c.at - start, 6), len(c.tokens), c.accepted] for c in record.chunks],
    }


def record_of(row: dict[str, Any]) -> Record:
    """The record of a row. Prompt, texts and token ids are not stored, so they are empty or 0."""
    request = ChatRequest(
        row["id"],
        "",
        "",
        row["max_tokens"],
        row["temperature"],
        seed=row["seed"],
        kind=row["kind"],
        group=row["group"],
    )
    return Record(
        request,
        row["scheduled"],
        row["sent"],
        [Chunk(at, "", (0,) * tokens, accepted) for at, tokens, accepted in row["chunks"]],
        row["ended"],
        row["finish"],
        row["error"],
        row["drafted"],
        row["accepted"],
        row["rounds"],
        row["fault"],
        row["retries"],
        row["prompt_tokens"],
        row["tokens"],
    )


def write_rows(path: Path, records: Sequence[Record], start: float) -> None:
    """Write JSON lines to `path`, and a table without the pieces beside it (.csv). Raises OSError."""
    rows = [row(record, start) for record in sorted(records, key=lambda r: r.scheduled)]
    with replacing(path) as file:
        file.writelines(json.dumps(one) + "\n" for one in rows)
    with replacing(path.with_suffix(".csv")) as file:
        table = csv.DictWriter(file, CSV_COLUMNS, extrasaction="ignore")
        table.writeheader()
        table.writerows(rows)


def read_rows(lines: Iterable[str]) -> list[Record]:
    """Records of the lines that write_rows wrote. Raises ValueError, KeyError for other text."""
    return [record_of(json.loads(line)) for line in lines if line.strip()]
