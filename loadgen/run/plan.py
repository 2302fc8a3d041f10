"""Turns the options of `loadgen run` into a plan: fills in defaults and rejects options that conflict."""

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from loadgen.metrics.result_metrics import figures
from loadgen.metrics.slo import Assertion, SloError, parse_assertions, parse_goodput
from loadgen.metrics.stack_metrics import Delta, parse, stack_figures
from loadgen.metrics.summary import Window
from loadgen.run.options import RunOptions, flags
from loadgen.run.runner import Closed, Endpoint, Plan
from loadgen.workload.arrivals import ArrivalError, Stage, parse_stages, steady
from loadgen.workload.lengths import LengthError, parse_lengths
from loadgen.workload.prompt_source import PromptError, Prompts, Synthetic, of_file, of_kinds
from loadgen.workload.schedule import (
    Group,
    GroupError,
    Planned,
    Workload,
    open_schedule,
    parse_group,
    trace_schedule,
)
from loadgen.workload.trace import TraceError, read_trace
from shared.runtime.stack_state import read_state

WRONG: Final = (ArrivalError, LengthError, PromptError, GroupError, SloError, TraceError, OSError)
STATE: Final = ".outrider"  # folder of a stack on this machine, unless OUTRIDER_STATE names another
URL: Final = "http://127.0.0.1:8000"
REQUESTS: Final = 100
UNTOLD: Final = ("api_key", "api_key_file", "broker", "out", "quiet")  # secret, or nothing of the run itself


class OptionError(ValueError):
    """Options that do not go together; the text names them."""


def endpoint(options: RunOptions) -> Endpoint:
    """Where requests go: as told, or the stack that runs here. Raises OSError for a key file that is none."""
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


def settle(options: RunOptions, where: Endpoint, model: str) -> Plan:
    """The plan. Raises one of WRONG, or OptionError."""
    _check(options)
    answer = parse_lengths(options.answer_tokens)
    groups = [parse_group(text) for text in options.group]
    workload = Workload(
        model,
        _prompts(options),
        parse_lengths(options.prompt_tokens),
        answer,
        tuple(groups) or (Group("", 1.0, options.temperature, options.top_p),),
        ignore_eos=options.ignore_eos,
        devices=tuple(options.device),
    )
    return Plan(
        where,
        workload,
        _load(options, workload),
        options.seed,
        options.warmup_s,
        options.cooldown_s,
        options.drain_s,
        options.max_dispatch_ms,
        parse_goodput(options.goodput),
        _assertions(options, where),
        _config(options, where, model),
    )


def _assertions(options: RunOptions, where: Endpoint) -> list[Assertion]:
    """Of figures that the result will have: a wrong name is found before the run. Raises SloError."""
    known = figures((), Window(0.0, 1.0), parse_goodput(options.goodput))
    if where.metrics:
        nothing = parse(())
        known |= stack_figures(Delta(nothing, nothing), 1.0)
    assertions = parse_assertions(options.assertions)
    for assertion in assertions:
        assertion.check(known)
    return assertions


def _check(options: RunOptions) -> None:
    ways = {
        "--rate": options.rate_per_s is not None,
        "--stages": bool(options.stages),
        "--trace": options.trace is not None,
        "--concurrency": options.concurrency is not None,
    }
    given = [name for name, there in ways.items() if there]
    if len(given) > 1:
        raise OptionError(f"{' and '.join(given)}: only one of them says when requests arrive")
    if options.think_s and options.concurrency is None:
        raise OptionError("--think is for users in a closed loop: give --concurrency, too")
    if options.burstiness != 1.0 and options.arrivals != "gamma":
        raise OptionError("--burstiness shapes gamma arrivals: give --arrivals gamma, too")
    if options.time_scale != 1.0 and options.trace is None:
        raise OptionError("--time-scale stretches a trace: give --trace, too")
    for name in ("warmup_s", "cooldown_s", "drain_s", "think_s"):
        if not getattr(options, name) >= 0:
            raise OptionError(f"{flags()[name]} {getattr(options, name)}: 0 s or more")


def _prompts(options: RunOptions) -> Prompts:
    """bundled, bundled:code,chat, synthetic, or a file. A trace's own lengths want synthetic ones."""
    named = options.prompts or ("synthetic" if options.trace else "bundled")
    if named == "synthetic":
        return Synthetic()
    if named.partition(":")[0] == "bundled":
        kinds = named.partition(":")[2]
        return of_kinds(kinds.split(",") if kinds else ())
    return of_file(Path(named))


def _load(options: RunOptions, workload: Workload) -> Sequence[Planned] | Closed:
    count = options.requests if options.requests or options.duration_s else REQUESTS
    if options.concurrency is not None:
        return Closed(options.concurrency, options.think_s, count, options.duration_s)
    if options.trace is not None:
        trace = read_trace(options.trace, options.time_scale)
        until = float("inf") if options.duration_s is None else options.duration_s
        return trace_schedule(workload, options.seed, [a for a in trace[: options.requests] if a.at < until])
    stages: Sequence[Stage]
    if options.stages:
        stages, count = parse_stages(options.stages), options.requests
    else:
        stages = steady(1.0 if options.rate_per_s is None else options.rate_per_s)
    schedule = open_schedule(
        workload, options.seed, stages, options.arrivals, options.burstiness, count, options.duration_s
    )
    if not schedule:
        raise OptionError("no request arrives: the rate is too low for the time")
    return schedule


def _config(options: RunOptions, where: Endpoint, model: str) -> dict[str, Any]:
    """What a reader needs to make the run again, by the names of its options; no key, and no place on this machine."""
    told = asdict(options) | {"url": where.url, "model": model, "metrics": list(where.metrics)}
    told["trace"] = str(options.trace) if options.trace else None
    names = {name: flag.removeprefix("--").replace("-", "_") for name, flag in flags().items()}
    return {names[name]: value for name, value in told.items() if name not in UNTOLD}
