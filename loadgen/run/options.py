"""The options of `loadgen run`, stated once: command line, help and result file all follow from this class."""

from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any, Final, get_type_hints

import typer
from typer.models import OptionInfo

from loadgen.workload.arrivals import Gaps

WHERE, WHEN, WHAT, JUDGED = "Where", "When requests arrive", "What is asked", "What counts"
OUT: Final = Path(".outrider/load.json")


def option(panel: str | None, text: str, *flags: str, **more: Any) -> Any:
    """An option in a panel of the help. flags: where they are not the field's name."""
    return typer.Option(*flags, help=text, rich_help_panel=panel, **more)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What a run is told. None, "" and [] are what was not given."""

    url: Annotated[str, option(WHERE, "Endpoint; empty = the stack that runs here, or port 8000.")] = ""
    api_key: Annotated[str, option(WHERE, "Its key.", envvar="OUTRIDER_API_KEY")] = ""
    api_key_file: Annotated[Path | None, option(WHERE, "File with it.")] = None
    model: Annotated[str, option(WHERE, "Empty = the first it serves.")] = ""
    plain: Annotated[
        bool, option(WHERE, "Send OpenAI's fields alone; found out by itself where possible.")
    ] = False
    metrics: Annotated[list[str], option(WHERE, "Prometheus pages of the services; may be given often.")] = (
        field(default_factory=list)
    )
    broker: Annotated[str, option(WHERE, "Broker's URL, for the timeline of a stack that traces.")] = ""

    rate_per_s: Annotated[float | None, option(WHEN, "Requests per second (1).", "--rate")] = None
    arrivals: Annotated[Gaps, option(WHEN, "Gaps between them.")] = "poisson"
    burstiness: Annotated[float, option(WHEN, "Shape of gamma gaps: 1 is Poisson, less is burstier.")] = 1.0
    stages: Annotated[
        str, option(WHEN, "Rates in turn, RATE:SECONDS or FROM..TO:SECONDS: '2:30 2..20:60'.")
    ] = ""
    trace: Annotated[
        Path | None, option(WHEN, "Recorded arrivals and lengths: Mooncake JSONL, Azure or BurstGPT CSV.")
    ] = None
    time_scale: Annotated[float, option(WHEN, "2 makes a trace last twice as long.")] = 1.0
    concurrency: Annotated[
        int | None, option(WHEN, "A closed loop of so many users instead of a rate.", min=1)
    ] = None
    think_s: Annotated[
        float, option(WHEN, "Seconds from an answer to that user's next request.", "--think")
    ] = 0.0
    requests: Annotated[int | None, option(WHEN, "So many at most (100, if no duration either).", min=1)] = (
        None
    )
    duration_s: Annotated[float | None, option(WHEN, "Seconds of arrivals.", "--duration")] = None

    prompts: Annotated[
        str,
        option(
            WHAT,
            "bundled, bundled:code,maths,chat,summary,creative, synthetic, or a file of JSON lines with `prompt`.",
        ),
    ] = ""
    prompt_tokens: Annotated[
        str, option(WHAT, "Of synthetic prompts: 128, 64..256, 128~0.5 (lognormal).")
    ] = "128"
    answer_tokens: Annotated[str, option(WHAT, "Of an answer, at most; written as --prompt-tokens is.")] = (
        "64"
    )
    ignore_eos: Annotated[bool, option(WHAT, "Have every answer go on to its last token.")] = False
    temperature: Annotated[float, option(WHAT, "Of all requests.", min=0, max=2)] = 0.0
    top_p: Annotated[float, option(WHAT, "Of all requests.", min=0, max=1)] = 1.0
    group: Annotated[
        list[str],
        option(
            WHAT,
            "A share of the requests with settings of its own, may be given often: "
            "'warm weight=2 temperature=0.8 top_p=0.9 answer=64..256'.",
        ),
    ] = field(default_factory=list)
    device: Annotated[list[str], option(WHAT, "Outrider: devices that are asked for, by turns.")] = field(
        default_factory=list
    )
    seed: Annotated[int, option(WHAT, "Everything drawn follows from it.", min=0)] = 1

    warmup_s: Annotated[
        float, option(JUDGED, "Seconds of arrivals that do not count, at the beginning.", "--warmup")
    ] = 0.0
    cooldown_s: Annotated[
        float, option(JUDGED, "Seconds of arrivals that do not count, at the end.", "--cooldown")
    ] = 0.0
    drain_s: Annotated[float, option(JUDGED, "Seconds that the last requests may take.", "--drain")] = 120.0
    timeout_s: Annotated[float, option(JUDGED, "Seconds of one request.", "--timeout", min=0.001)] = 600.0
    stall_s: Annotated[float, option(JUDGED, "Seconds of a stream without a byte.", "--stall", min=0.001)] = (
        60.0
    )
    retries: Annotated[
        int, option(JUDGED, "Of requests refused with 429 or 503, or not connected.", min=0)
    ] = 0
    goodput: Annotated[str, option(JUDGED, "Limits of a good request in ms: 'ttft:500 tpot:50'.")] = ""
    assertions: Annotated[
        list[str],
        option(JUDGED, "What has to hold, else exit code 1: 'p99_ttft_scheduled_ms<500'.", "--assert"),
    ] = field(default_factory=list)
    max_dispatch_ms: Annotated[
        float, option(JUDGED, "Own lateness (p99) beyond which no result is valid.", min=0)
    ] = 10.0

    label: Annotated[str, option(None, "Name of the run in reports.")] = ""
    out: Annotated[Path, option(None, "Result; rows and a table lie beside it.")] = OUT
    quiet: Annotated[bool, option(None, "Say nothing meanwhile.", "--quiet", "-q")] = False


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
