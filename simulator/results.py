"""Result files of a simulated run: loadgen's, without date and hardware, so that equal runs give equal bytes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loadgen.results.result_file import write_result
from loadgen.results.rows import write_rows
from loadgen.results.stack_timeline import write_spans
from loadgen.run.drive import RunState
from loadgen.run.outcome import RunOutcome


def write_simulated(outcome: RunOutcome, config: Mapping[str, Any], state: RunState, out: Path) -> None:
    """Write the result file, and requests and spans beside it. Raises OSError."""
    out.parent.mkdir(parents=True, exist_ok=True)
    if outcome.spans:
        write_spans(out.with_suffix(".spans.jsonl"), outcome.spans)
    rows = out.with_suffix(".requests.jsonl")
    write_rows(rows, state.records, state.started)
    write_result(out, "load", config, {**outcome.body, "requests_file": rows.name}, measured=False)
