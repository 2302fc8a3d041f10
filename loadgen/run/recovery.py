"""Makes a result of the requests that a killed run had finished."""

from dataclasses import replace
from pathlib import Path

from loadgen.metrics.slo import SloError, parse_assertions, parse_goodput
from loadgen.results.partial_rows import partial_file, read_partial
from loadgen.results.result_reader import ReportError
from loadgen.run.drive import RunState
from loadgen.run.outcome import Criteria, RunOutcome, outcome_of
from loadgen.run.runner import write


def recover(out: Path) -> RunOutcome:
    """Write the result of a killed run to `out`, marked as partial, and delete its partial rows.

    Requests in flight at the kill and the services' metrics are lost. Raises ReportError, OSError.
    """
    file = partial_file(out)
    try:
        run = read_partial(out)
        config = run.config
        criteria = Criteria(
            float(config["warmup"]),
            float(config["cooldown"]),
            float(config["max_dispatch_ms"]),
            parse_goodput(config["goodput"]),
            parse_assertions(config["assert"]),
        )
    except FileNotFoundError:
        raise ReportError(f"{file} is not there: no run with this --out was killed") from None
    except (ValueError, LookupError, TypeError, AttributeError, SloError) as error:
        raise ReportError(f"{file}: not the rows of a run: {type(error).__name__}: {error}") from None
    state = RunState(
        records=run.records, last_due=max((record.scheduled for record in run.records), default=0.0)
    )
    state.stop.set()
    outcome = outcome_of(criteria, state, {}, [])
    outcome = replace(outcome, body={**outcome.body, "started": run.started})
    write(outcome, config, state, out)
    file.unlink()
    return outcome
