"""A request as a row of the result: JSON lines beside the result file, times in seconds from the run's start."""

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
    """Everything that was seen but the texts. chunks: time, tokens and accepted drafts of every piece."""
    asked = record.request
    return {
        "id": asked.id,
        "kind": asked.kind,
        "group": asked.group,
        "max_tokens": asked.max_tokens,
        "temperature": asked.temperature,
        "seed": asked.seed,
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


def record_of(found: dict[str, Any]) -> Record:
    """The record again; prompt and texts are not kept, token ids neither, only how many."""
    request = ChatRequest(
        found["id"],
        "",
        "",
        found["max_tokens"],
        found["temperature"],
        seed=found["seed"],
        kind=found["kind"],
        group=found["group"],
    )
    return Record(
        request,
        found["scheduled"],
        found["sent"],
        [Chunk(at, "", (0,) * tokens, accepted) for at, tokens, accepted in found["chunks"]],
        found["ended"],
        found["finish"],
        found["error"],
        found["drafted"],
        found["accepted"],
        found["rounds"],
        found["fault"],
        found["retries"],
        found["prompt_tokens"],
        found["tokens"],
    )


def write_rows(path: Path, records: Sequence[Record], start: float) -> None:
    """JSON lines at `path`, and the same without pieces as a table beside it (.csv). Raises OSError."""
    rows = [row(record, start) for record in sorted(records, key=lambda r: r.scheduled)]
    with replacing(path) as file:
        file.writelines(json.dumps(one) + "\n" for one in rows)
    with replacing(path.with_suffix(".csv")) as file:
        table = csv.DictWriter(file, CSV_COLUMNS, extrasaction="ignore")
        table.writeheader()
        table.writerows(rows)


def read_rows(lines: Iterable[str]) -> list[Record]:
    """What write_rows wrote. Raises ValueError, KeyError for something else."""
    return [record_of(json.loads(line)) for line in lines if line.strip()]
