"""The finished requests of a run in progress, in a file beside its result: a killed run can be recovered from it."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO

from loadgen.request import Record
from loadgen.results.result_file import clock_time
from loadgen.results.rows import read_rows, row

SUFFIX: Final = ".requests.jsonl.partial"


def partial_file(out: Path) -> Path:
    """The file of partial rows that belongs to a result file."""
    return out.with_suffix(SUFFIX)


class PartialRows:
    """Appends a line per finished request, which reaches the operating system at once: SIGKILL does not lose it.

    The first line has the configuration. An error of the disk ends the file, not the run, whose result comes later.
    """

    def __init__(self, out: Path, config: Mapping[str, Any]) -> None:
        self._path = partial_file(out)
        self._header = {"config": dict(config)}
        self._file: TextIO | None = None
        self._failed = False

    def add(self, record: Record, start: float) -> None:
        """Append a record. start: of the run, on the record's clock."""
        if self._failed:
            return
        try:
            if self._file is None:
                self._file = self._path.open("w", encoding="utf-8", buffering=1)
                self._file.write(json.dumps({**self._header, "started": clock_time(start)}) + "\n")
            self._file.write(json.dumps(row(record, start)) + "\n")
        except OSError:
            self._failed = True

    def close(self, keep: bool) -> None:
        """Close the file, and delete it unless it is to be kept for a recovery."""
        with suppress(OSError):
            if self._file:
                self._file.close()
            if not keep:
                self._path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class KilledRun:
    """The rows of a killed run. started: ISO 8601; times of records are seconds from it."""

    config: Mapping[str, Any]
    started: str
    records: list[Record]


def read_partial(out: Path) -> KilledRun:
    """The partial rows of a result file. Raises OSError, ValueError, KeyError, TypeError."""
    first, *lines = partial_file(out).read_text(encoding="utf-8").splitlines(keepends=True)
    header = json.loads(first)
    whole = [line for line in lines if line.endswith("\n")]  # the process may have died within the last line
    return KilledRun(header["config"], header["started"], read_rows(whole))
