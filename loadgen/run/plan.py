"""Turns the options of `loadgen run` into a plan: fills in defaults and rejects options that conflict."""

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from loadgen.metrics.result_metrics import run_metrics
from loadgen.metrics.slo import Assertion, SloError, parse_assertions, parse_goodput
from loadgen.metrics.stack_metrics import Delta, parse, stack_metrics
from loadgen.metrics.summary import Window
from loadgen.run.options import RunOptions, flags
from loadgen.run.outcome import Criteria
from loadgen.run.runner import ClosedLoop, Endpoint, RunPlan
from loadgen.workload.arrivals import ArrivalError, RateStage, constant_rate, parse_stages
from loadgen.workload.lengths import LengthError, parse_lengths
from loadgen.workload.prompt_source import PromptError, Prompts, Synthetic, of_file, of_kinds
from loadgen.workload.schedule import (
    GroupError,
    RequestGroup,
    ScheduledRequest,
    Workload,
    open_schedule,
    parse_group,
    trace_schedule,
)
from loadgen.workload.trace import TraceError, read_trace
from shared.runtime.stack_state import read_state

INPUT_ERRORS: Final = (ArrivalError, LengthError, PromptError, GroupError, SloError, TraceError, OSError)
STATE: Final = ".outrider"  # state folder of a stack on this machine, unless OUTRIDER_STATE names another
URL: Final = "http://127.0.0.1:8000"
REQUESTS: Final = 100
NOT_RECORDED: Final = ("api_key", "api_key_file", "broker", "out", "quiet")  # secrets, or not about the load


class OptionError(ValueError):
    """Options that conflict; the text names them and the fix."""


def endpoint(options: RunOptions) -> Endpoint:
    """The endpoint of the options, or of the stack that runs here. Raises OSError for an unreadable key file."""
    state_dir = Path(os.environ.get("OUTRIDER_STATE") or STATE)
    here = None if options.url else read_state(state_dir)
    key = (
        options.api_key_file.read_text(encoding="utf-8").strip() if options.api_key_file else options.api_key
    )
    return Endpoint(
        options.url or (here.url if here else URL),
        key,
        options.plain,
        options.timeout_s,
        options.stall_s,
        options.retries,
        tuple(options.metrics) or (here.metrics if here else ()),
        options.broker or (here.broker_url if here else ""),
    )


def make_plan(options: RunOptions, where: Endpoint, model: str) -> RunPlan:
    """The plan that options describe. Raises one of INPUT_ERRORS, or OptionError."""
    _check(options)
    answer = parse_lengths(options.answer_tokens)
    groups = [parse_group(text) for text in options.group]
    workload = Workload(
        model,
        _prompts(options),
        parse_lengths(options.prompt_tokens),
        answer,
        tuple(groups) or (RequestGroup("", 1.0, options.temperature, options.top_p),),
        ignore_eos=options.ignore_eos,
        devices=tuple(options.device),
    )
    return RunPlan(
        where,
        workload,
        _load(options, workload),
        options.seed,
        options.drain_s,
        Criteria(
            options.warmup_s,
            options.cooldown_s,
            options.max_dispatch_ms,
            parse_goodput(options.goodput),
            _assertions(options, where),
        ),
        _config(options, where, model),
    )


def _assertions(options: RunOptions, where: Endpoint) -> list[Assertion]:
    """The assertions, on metrics that the result will have. Raises SloError."""
    known = run_metrics((), Window(0.0, 1.0), parse_goodput(options.goodput))
    if where.metrics:
        nothing = parse(())
        known |= stack_metrics(Delta(nothing, nothing), 1.0)
    assertions = parse_assertions(options.assertions)
    for assertion in assertions:
        assertion.check(known)
    return assertions


def _check(options: RunOptions) -> None:
    sources = {
        "--rate": options.rate_per_s is not None,
        "--stages": bool(options.stages),
        "--trace": options.trace is not None,
        "--concurrency": options.concurrency is not None,
    }
    given = [name for name, used in sources.items() if used]
    if len(given) > 1:
        raise OptionError(f"{' and '.join(given)}: give only one of them")
    if options.think_s and options.concurrency is None:
        raise OptionError("--think applies to a closed loop: give --concurrency as well")
    if options.burstiness != 1.0 and options.arrivals != "gamma":
        raise OptionError("--burstiness applies to gamma arrivals: give --arrivals gamma as well")
    if options.time_scale != 1.0 and options.trace is None:
        raise OptionError("--time-scale applies to a trace: give --trace as well")
    for name in ("warmup_s", "cooldown_s", "drain_s", "think_s"):
        if not getattr(options, name) >= 0:
            raise OptionError(f"{flags()[name]} {getattr(options, name)}: must be 0 or more seconds")


def _prompts(options: RunOptions) -> Prompts:
    """bundled, bundled:code,chat, synthetic, or a file. A trace has synthetic ones by default, for its lengths."""
    named = options.prompts or ("synthetic" if options.trace else "bundled")
    if named == "synthetic":
        return Synthetic()
    if named.partition(":")[0] == "bundled":
        kinds = named.partition(":")[2]
        return of_kinds(kinds.split(",") if kinds else ())
    return of_file(Path(named))


def _load(options: RunOptions, workload: Workload) -> Sequence[ScheduledRequest] | ClosedLoop:
    count = options.requests if options.requests or options.duration_s else REQUESTS
    if options.concurrency is not None:
        return ClosedLoop(options.concurrency, options.think_s, count, options.duration_s)
    if options.trace is not None:
        trace = read_trace(options.trace, options.time_scale)
        until = float("inf") if options.duration_s is None else options.duration_s
        arrivals = [arrival for arrival in trace[: options.requests] if arrival.at < until]
        if not arrivals:
            raise OptionError("no request arrives: the trace has none within --duration")
        return trace_schedule(workload, options.seed, arrivals)
    stages: Sequence[RateStage]
    if options.stages:
        stages, count = parse_stages(options.stages), options.requests
    else:
        stages = constant_rate(1.0 if options.rate_per_s is None else options.rate_per_s)
    schedule = open_schedule(
        workload, options.seed, stages, options.arrivals, options.burstiness, count, options.duration_s
    )
    if not schedule:
        raise OptionError("no request arrives: the rate is too low for the duration")
    return schedule


def _config(options: RunOptions, where: Endpoint, model: str) -> dict[str, Any]:
    """The configuration to repeat the run, by the names of options; without secrets and paths of this machine."""
    values = asdict(options) | {"url": where.url, "model": model, "metrics": list(where.metrics)}
    values["trace"] = str(options.trace) if options.trace else None
    names = {name: flag.removeprefix("--").replace("-", "_") for name, flag in flags().items()}
    return {names[name]: value for name, value in values.items() if name not in NOT_RECORDED}
