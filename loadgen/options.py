"""What `loadgen run` was asked for, settled into a plan: defaults, and what goes with what."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from loadgen.arrivals import ArrivalError, Gaps, Stage, parse_stages, steady
from loadgen.figures import figures
from loadgen.lengths import LengthError, parse_lengths
from loadgen.metrics import Window
from loadgen.prompts.source import PromptError, Prompts, Synthetic, of_file, of_kinds
from loadgen.run import Closed, Endpoint, Plan
from loadgen.schedule import Group, GroupError, Planned, Workload, open_schedule, parse_group, trace_schedule
from loadgen.slo import Assertion, SloError, parse_assertions, parse_goodput
from loadgen.stack_metrics import Delta, parse, stack_figures
from loadgen.trace import TraceError, read_trace

WRONG: Final = (ArrivalError, LengthError, PromptError, GroupError, SloError, TraceError, OSError)
STATE: Final = ".outrider"  # folder of a stack on this machine, unless OUTRIDER_STATE names another
URL: Final = "http://127.0.0.1:8000"
REQUESTS: Final = 100


class OptionError(ValueError):
    """Options that do not go together; the text names them."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The command line. None and "" are what was not given."""

    url: str = ""
    api_key: str = ""
    api_key_file: Path | None = None
    model: str = ""
    requests: int | None = None
    duration: float | None = None
    rate: float | None = None
    arrivals: Gaps = "poisson"
    burstiness: float = 1.0
    stages: str = ""
    trace: Path | None = None
    time_scale: float = 1.0
    concurrency: int | None = None
    think: float = 0.0
    prompts: str = ""
    prompt_tokens: str = "128"
    answer_tokens: str = "64"
    group: Sequence[str] = ()
    temperature: float = 0.0
    top_p: float = 1.0
    ignore_eos: bool = False
    device: Sequence[str] = ()
    seed: int = 1
    warmup: float = 0.0
    cooldown: float = 0.0
    drain: float = 120.0
    goodput: str = ""
    assertions: Sequence[str] = ()
    max_dispatch_ms: float = 10.0
    metrics: Sequence[str] = ()
    broker: str = ""
    label: str = ""
    retries: int = 0
    timeout: float = 600.0
    stall: float = 60.0
    plain: bool = False


def endpoint(asked: Asked) -> Endpoint:
    """Where requests go: as told, or the stack that runs here. Raises OSError for a key file that is none."""
    here = _state() if not asked.url else {}
    key = asked.api_key_file.read_text(encoding="utf-8").strip() if asked.api_key_file else asked.api_key
    return Endpoint(
        asked.url or here.get("url", URL),
        key,
        asked.plain,
        asked.timeout,
        asked.stall,
        asked.retries,
        tuple(asked.metrics) or tuple(here.get("metrics", ())),
        asked.broker or here.get("broker_url", ""),
    )


def settle(asked: Asked, where: Endpoint, model: str) -> Plan:
    """The plan. Raises one of WRONG, or OptionError."""
    _check(asked)
    answer = parse_lengths(asked.answer_tokens)
    groups = [parse_group(text) for text in asked.group]
    workload = Workload(
        model,
        _prompts(asked),
        parse_lengths(asked.prompt_tokens),
        answer,
        tuple(groups) or (Group("", 1.0, asked.temperature, asked.top_p),),
        ignore_eos=asked.ignore_eos,
        devices=tuple(asked.device),
    )
    return Plan(
        where,
        workload,
        _load(asked, workload),
        asked.seed,
        asked.warmup,
        asked.cooldown,
        asked.drain,
        asked.max_dispatch_ms,
        parse_goodput(asked.goodput),
        _assertions(asked, where),
        _config(asked, where, model),
    )


def _assertions(asked: Asked, where: Endpoint) -> list[Assertion]:
    """Of figures that the result will have: a wrong name is found before the run. Raises SloError."""
    known = figures((), Window(0.0, 1.0), parse_goodput(asked.goodput))
    if where.metrics:
        nothing = parse(())
        known |= stack_figures(Delta(nothing, nothing), 1.0)
    assertions = parse_assertions(asked.assertions)
    for assertion in assertions:
        assertion.check(known)
    return assertions


def _check(asked: Asked) -> None:
    ways = {
        "--rate": asked.rate is not None,
        "--stages": bool(asked.stages),
        "--trace": asked.trace is not None,
        "--concurrency": asked.concurrency is not None,
    }
    given = [name for name, there in ways.items() if there]
    if len(given) > 1:
        raise OptionError(f"{' and '.join(given)}: only one of them says when requests arrive")
    if asked.think and asked.concurrency is None:
        raise OptionError("--think is for users in a closed loop: give --concurrency, too")
    if asked.burstiness != 1.0 and asked.arrivals != "gamma":
        raise OptionError("--burstiness shapes gamma arrivals: give --arrivals gamma, too")
    if asked.time_scale != 1.0 and asked.trace is None:
        raise OptionError("--time-scale stretches a trace: give --trace, too")
    for name in ("warmup", "cooldown", "drain", "think"):
        if not getattr(asked, name) >= 0:
            raise OptionError(f"--{name} {getattr(asked, name)}: 0 s or more")


def _prompts(asked: Asked) -> Prompts:
    """bundled, bundled:code,chat, synthetic, or a file. A trace's own lengths want synthetic ones."""
    named = asked.prompts or ("synthetic" if asked.trace else "bundled")
    if named == "synthetic":
        return Synthetic()
    if named.partition(":")[0] == "bundled":
        kinds = named.partition(":")[2]
        return of_kinds(kinds.split(",") if kinds else ())
    return of_file(Path(named))


def _load(asked: Asked, workload: Workload) -> Sequence[Planned] | Closed:
    count = asked.requests if asked.requests or asked.duration else REQUESTS
    if asked.concurrency is not None:
        return Closed(asked.concurrency, asked.think, count, asked.duration)
    if asked.trace is not None:
        trace = read_trace(asked.trace, asked.time_scale)
        until = float("inf") if asked.duration is None else asked.duration
        return trace_schedule(workload, asked.seed, [a for a in trace[: asked.requests] if a.at < until])
    stages: Sequence[Stage]
    if asked.stages:
        stages, count = parse_stages(asked.stages), asked.requests
    else:
        stages = steady(1.0 if asked.rate is None else asked.rate)
    schedule = open_schedule(
        workload, asked.seed, stages, asked.arrivals, asked.burstiness, count, asked.duration
    )
    if not schedule:
        raise OptionError("no request arrives: the rate is too low for the time")
    return schedule


def _config(asked: Asked, where: Endpoint, model: str) -> dict[str, Any]:
    """What a reader needs to make the run again; no key."""
    told = asdict(asked) | {"url": where.url, "model": model, "metrics": list(where.metrics)}
    told["trace"] = str(asked.trace) if asked.trace else None
    del told["api_key"], told["api_key_file"], told["broker"]  # they may hold what is secret
    return told


def _state() -> dict[str, Any]:
    """What the stack on this machine says of itself; {} when there is none."""
    try:
        folder = Path(os.environ.get("OUTRIDER_STATE") or STATE)
        state: dict[str, Any] = json.loads((folder / "up.json").read_text())
    except (OSError, ValueError):
        return {}
    return state
