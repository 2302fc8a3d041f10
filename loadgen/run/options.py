"""The options of `loadgen run`, stated once: command line, help and result file all follow from this class."""

from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any, Final, get_type_hints

import typer
from typer.models import OptionInfo

from loadgen.workload.arrivals import Gaps

ENDPOINT, ARRIVALS, REQUESTS, RESULT = "Endpoint", "Arrivals", "Requests", "Measurement"
OUT: Final = Path(".outrider/load.json")


def option(panel: str | None, text: str, *flags: str, **more: Any) -> Any:
    """An option in a panel of the help. flags: if they differ from the field's name."""
    return typer.Option(*flags, help=text, rich_help_panel=panel, **more)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """The options of a run. None, "" and [] stand for options that were not given."""

    url: Annotated[str, option(ENDPOINT, "Endpoint; empty: the stack that runs here, or port 8000.")] = ""
    api_key: Annotated[str, option(ENDPOINT, "API key.", envvar="OUTRIDER_API_KEY")] = ""
    api_key_file: Annotated[Path | None, option(ENDPOINT, "File with the API key.")] = None
    model: Annotated[str, option(ENDPOINT, "Model; empty: the first one that the endpoint serves.")] = ""
    plain: Annotated[
        bool, option(ENDPOINT, "Send only OpenAI's fields; set automatically for other servers.")
    ] = False
    metrics: Annotated[list[str], option(ENDPOINT, "Prometheus page of a service; may be repeated.")] = field(
        default_factory=list
    )
    broker: Annotated[
        str, option(ENDPOINT, "Broker URL, for the timeline of a stack with OUTRIDER_TRACE=1.")
    ] = ""

    rate_per_s: Annotated[float | None, option(ARRIVALS, "Requests per second (default 1).", "--rate")] = None
    arrivals: Annotated[Gaps, option(ARRIVALS, "Distribution of the gaps between arrivals.")] = "poisson"
    burstiness: Annotated[float, option(ARRIVALS, "Shape of gamma gaps: 1 is Poisson, less is burstier.")] = (
        1.0
    )
    stages: Annotated[
        str, option(ARRIVALS, "Rates in turn, RATE:SECONDS or FROM..TO:SECONDS: '2:30 2..20:60'.")
    ] = ""
    trace: Annotated[
        Path | None, option(ARRIVALS, "Recorded arrivals and lengths: Mooncake JSONL, Azure or BurstGPT CSV.")
    ] = None
    time_scale: Annotated[
        float, option(ARRIVALS, "Factor on the times of a trace: 2 makes it last twice as long.")
    ] = 1.0
    concurrency: Annotated[
        int | None, option(ARRIVALS, "Number of users in a closed loop, instead of a rate.", min=1)
    ] = None
    think_s: Annotated[
        float, option(ARRIVALS, "Seconds from an answer to that user's next request.", "--think")
    ] = 0.0
    requests: Annotated[
        int | None, option(ARRIVALS, "Maximum number of requests (default 100 without --duration).", min=1)
    ] = None
    duration_s: Annotated[float | None, option(ARRIVALS, "Seconds of arrivals.", "--duration")] = None

    prompts: Annotated[
        str,
        option(
            REQUESTS,
            "bundled, bundled:code,maths,chat,summary,creative, synthetic, or a file of JSON lines with `prompt`.",
        ),
    ] = ""
    prompt_tokens: Annotated[
        str, option(REQUESTS, "Length of synthetic prompts: 128, 64..256, 128~0.5 (lognormal).")
    ] = "128"
    answer_tokens: Annotated[
        str, option(REQUESTS, "Maximum length of an answer, in the form of --prompt-tokens.")
    ] = "64"
    ignore_eos: Annotated[bool, option(REQUESTS, "Continue every answer to its maximum length.")] = False
    temperature: Annotated[float, option(REQUESTS, "Sampling temperature of all requests.", min=0, max=2)] = (
        0.0
    )
    top_p: Annotated[float, option(REQUESTS, "top_p of all requests.", min=0, max=1)] = 1.0
    group: Annotated[
        list[str],
        option(
            REQUESTS,
            "A share of the requests with its own settings; may be repeated: "
            "'warm weight=2 temperature=0.8 top_p=0.9 answer=64..256'.",
        ),
    ] = field(default_factory=list)
    device: Annotated[
        list[str], option(REQUESTS, "Outrider: device that drafts; if repeated, requests take turns.")
    ] = field(default_factory=list)
    seed: Annotated[int, option(REQUESTS, "Seed of everything random.", min=0)] = 1

    warmup_s: Annotated[
        float, option(RESULT, "Seconds of arrivals at the start that are not counted.", "--warmup")
    ] = 0.0
    cooldown_s: Annotated[
        float, option(RESULT, "Seconds of arrivals at the end that are not counted.", "--cooldown")
    ] = 0.0
    drain_s: Annotated[float, option(RESULT, "Seconds to wait for the last requests.", "--drain")] = 120.0
    timeout_s: Annotated[
        float, option(RESULT, "Time limit of one request, in seconds.", "--timeout", min=0.001)
    ] = 600.0
    stall_s: Annotated[
        float, option(RESULT, "Time limit of a stream without a byte, in seconds.", "--stall", min=0.001)
    ] = 60.0
    retries: Annotated[
        int, option(RESULT, "Retries of a request that got 429, 503 or no connection.", min=0)
    ] = 0
    goodput: Annotated[str, option(RESULT, "Limits for goodput in ms: 'ttft:500 tpot:50'.")] = ""
    assertions: Annotated[
        list[str],
        option(RESULT, "Condition on the result, else exit code 1: 'p99_ttft_scheduled_ms<500'.", "--assert"),
    ] = field(default_factory=list)
    max_dispatch_ms: Annotated[
        float, option(RESULT, "Dispatch delay (p99) above which the result is not valid.", min=0)
    ] = 10.0

    label: Annotated[str, option(None, "Label of the run in reports.")] = ""
    out: Annotated[Path, option(None, "Result file; requests go to files beside it.")] = OUT
    quiet: Annotated[bool, option(None, "Show no progress and no result.", "--quiet", "-q")] = False


def flags() -> dict[str, str]:
    """The option of every field: `--warmup` of warmup_s."""
    return {name: _flag(name, hint) for name, hint in _hints().items()}


def command(run: Callable[[RunOptions], None]) -> Callable[..., None]:
    """A function with these options as its parameters, which typer makes a command of."""

    def called(**given: Any) -> None:
        run(RunOptions(**given))

    hints = _hints()
    called.__name__, called.__doc__ = run.__name__, run.__doc__
    called.__annotations__ = {**hints, "return": None}
    called.__signature__ = Signature(  # type: ignore[attr-defined]
        [
            Parameter(one.name, Parameter.KEYWORD_ONLY, default=_default(one), annotation=hints[one.name])
            for one in fields(RunOptions)
        ]
    )
    return called


def _hints() -> dict[str, Any]:
    return get_type_hints(RunOptions, include_extras=True)


def _flag(name: str, hint: Any) -> str:
    (info,) = (extra for extra in hint.__metadata__ if isinstance(extra, OptionInfo))
    given = (
        info.default,
        *(info.param_decls or ()),
    )  # within Annotated, typer has the first flag as the default
    return next((flag for flag in given if isinstance(flag, str)), f"--{name.replace('_', '-')}")


def _default(one: Any) -> Any:
    return one.default if one.default is not MISSING else one.default_factory()
