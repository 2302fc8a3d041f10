"""Reads and validates result files, with the requests and spans beside them."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from loadgen.metrics.summary import Window, answered
from loadgen.request import Record
from loadgen.results.partial_rows import partial_file
from loadgen.results.result_file import SCHEMA
from loadgen.results.rows import read_rows
from loadgen.results.spans import Span

T = TypeVar("T")
KINDS: Final = ("load", "sweep")


class ReportError(RuntimeError):
    """A result file that cannot be used; the text is one line and names the file."""


class Part(BaseModel):
    """Base of the parts of a result file."""

    model_config = ConfigDict(allow_inf_nan=False)


class CountedWindow(Part):
    """The counted window, in seconds from the run's start."""

    start: float
    end: float


class Stack(Part):
    """Metrics of the services, None if not measured. acceptance_by_position: share by position in a draft, from 1."""

    alpha: float | None = None
    tau: float | None = None
    acceptance_by_position: dict[int, float | None] = {}
    drafted_tokens: float | None = None
    accepted_tokens: float | None = None
    wasted_tokens: float | None = None
    fused_drafted_tokens: float | None = None
    fused_accepted_tokens: float | None = None
    emitted_tokens: float | None = None
    link_bytes_per_emitted_token: float | None = None
    verifier_utilisation: float | None = None


Metrics = dict[str, Any]


class SweepPoint(Part):
    """One run of a sweep, at a rate (requests/s), with a number of users, or at a level of another field.

    run_class: stable, backlogged or overloaded; "" = not known.
    """

    policy: str = ""
    rate: float | None = None
    concurrency: float | None = None
    level: float | None = None
    value: Any = None
    run_class: str = Field(default="", alias="class")
    repeat: int = 0
    metrics: Metrics = Field(alias="figures")
    stack: Stack = Stack()
    file: str = ""

    @property
    def x(self) -> float | None:
        """Its place on a chart's horizontal axis; None if its level is not a number."""
        return next((x for x in (self.rate, self.concurrency, self.level) if x is not None), None)


class Crossover(Part):
    """The level of load (requests/s or users) from which on the first policy is no better than the second."""

    between: Annotated[list[str], Field(min_length=2, max_length=2)]
    level: float


class CellMember(Part):
    """What a device had of its cell. share: of the band, mean over the run."""

    device: str
    up_bytes: float
    down_bytes: float
    share: float


class CellSeries(Part):
    """By step: a device's bytes, its share of the band, and what it might have had; None = not fixed."""

    bytes: list[float]
    share: list[float]
    given: list[float | None]


class CellResult(Part):
    """A radio cell (loadgen/metrics/cell_history.py). bandwidth: Hz or bit/s. at_s: ends of the steps of all series."""

    bandwidth: float
    sharing: str
    duplex: bool = False
    seconds: float
    jain_bytes: float | None
    jain_share: float | None
    members: list[CellMember] = Field(alias="devices")
    at_s: list[float]
    series: dict[str, CellSeries]


class Result(Part):
    """A result file of either kind; fields of the other kind are empty.

    run_class: stable, backlogged or overloaded; "" = not known.
    """

    version: Literal[1] = Field(alias="schema")
    kind: Literal["load", "sweep"]
    date: str = ""
    git: str = ""
    hardware: dict[str, Any] = {}
    config: dict[str, Any] = {}
    partial: bool = False
    valid: bool = True
    problems: list[str] = []
    failed_assertions: list[str] = []
    run_class: str = Field(default="", alias="class")
    window: CountedWindow = CountedWindow(start=0.0, end=0.0)
    metrics: Metrics = Field(default={}, alias="figures")
    by_kind: dict[str, Metrics] = {}
    stack: Stack = Stack()
    cells: dict[str, CellResult] = {}
    requests_file: str = ""
    trace_start_us: float | None = None
    points: list[SweepPoint] = []
    knees: dict[str, float | None] = {}
    crossovers: list[Crossover] = []

    @property
    def axis(self) -> str:
        """What the points of a sweep differ in: requests/s, users, or the name of a field."""
        if any(point.rate is not None for point in self.points):
            return "requests/s"
        return "users" if "axis" not in self.config else str(self.config["axis"])


@dataclass(frozen=True, slots=True)
class LoadedResult:
    """A result with its requests and spans. label: unique within a report. missing: messages about missing files."""

    path: Path
    label: str
    result: Result
    records: Sequence[Record] = ()
    spans: Sequence[Span] = ()
    missing: Sequence[str] = ()

    @property
    def policy(self) -> str:
        """The run's policy, "" if unknown."""
        return str(self.result.config.get("policy") or "")

    @property
    def window(self) -> Window:
        """The counted window, on the records' clock."""
        return Window(self.result.window.start, self.result.window.end)

    @property
    def counted(self) -> list[Record]:
        """Answered requests that were due within the window."""
        return [r for r in self.records if self.window.has(r.scheduled) and answered(r)]


def number(metrics: Mapping[str, Any], name: str) -> float | None:
    """A metric's value, None if not measured."""
    value = metrics.get(name)
    return float(value) if isinstance(value, int | float) and isfinite(value) else None


def read_all(paths: Sequence[Path]) -> list[LoadedResult]:
    """Read results, each with a unique label. Raises ReportError."""
    if not paths:
        raise ReportError("no result file is given")
    labels: dict[str, int] = {}
    found = []
    for path in paths:
        one = _read(path)
        times = labels[one.label] = labels.get(one.label, 0) + 1
        label = f"{one.label} ({times})" if times > 1 else one.label
        found.append(LoadedResult(path, label, one.result, one.records, one.spans, one.missing))
    return found


def _read(path: Path) -> LoadedResult:
    result = _result(path)
    label = str(result.config.get("label") or path.stem)
    if result.kind == "sweep":
        return LoadedResult(path, label, result)
    rows = path.with_name(Path(result.requests_file).name or f"{path.stem}.requests.jsonl")
    spans = path.with_name(f"{path.stem}.spans.jsonl")
    missing = (
        []
        if rows.is_file()
        else [f"{rows.name} is not beside {path.name}: charts of single requests are left out"]
    )
    return LoadedResult(
        path,
        label,
        result,
        _lines(rows, _record) if rows.is_file() else (),
        _lines(spans, _span) if spans.is_file() else (),
        missing,
    )


def _result(path: Path) -> Result:
    try:
        found = json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda _: None)
    except OSError as error:
        hint = ""
        if partial_file(path).is_file():
            hint = f"; its run was killed: `loadgen recover {path}` makes a result of its finished requests"
        raise ReportError(f"{path}: {error.strerror or error}{hint}") from None
    except ValueError as error:
        raise ReportError(f"{path}: not JSON: {error}") from None
    if not isinstance(found, dict):
        raise ReportError(f"{path}: not a result file")
    if found.get("schema") != SCHEMA:
        raise ReportError(f"{path}: schema {found.get('schema')!r}; this report reads {SCHEMA}")
    if found.get("kind") not in KINDS:
        raise ReportError(f"{path}: kind {found.get('kind')!r}; a report needs {' or '.join(KINDS)}")
    try:
        return Result.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ReportError(f"{path}: {where}: {first['msg']}") from None


def _lines(path: Path, read: Callable[[str], T]) -> list[T]:
    """Every line of a file, parsed by `read`. Raises ReportError, which names the line."""
    found, at = [], 0
    try:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                at += 1
                if line.strip():
                    found.append(read(line))
    except OSError as error:
        raise ReportError(f"{path}: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        why = f"{error} is missing" if isinstance(error, KeyError) else str(error).splitlines()[0]
        raise ReportError(f"{path}: line {at or 1}: {why}") from None
    return found


def _record(line: str) -> Record:
    record = read_rows([line])[0]
    times = (record.scheduled, record.sent, record.ended, *(chunk.at for chunk in record.chunks))
    counts = (record.drafted_tokens, record.accepted_tokens, record.rounds, record.completion_tokens)
    if not all(isinstance(value, int | float) and isfinite(value) for value in (*times, *counts)):
        raise ValueError("not a request")
    return record


def _span(line: str) -> Span:
    return Span(**json.loads(line)).checked()
