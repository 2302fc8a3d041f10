"""`loadgen run`."""

from pathlib import Path
from typing import Annotated, Any, Final

import typer
import uvloop
from rich.console import Console

from loadgen.arrivals import Gaps
from loadgen.client import Client
from loadgen.commands.endpoint import reached
from loadgen.commands.ends import EXIT_FAILED, end_on_signals, leave, progress_console, told
from loadgen.drive import Course
from loadgen.live import Progress
from loadgen.options import Asked, settle
from loadgen.output import OutputError, check_output, keep
from loadgen.run import BESIDE, Outcome, watched, write
from loadgen.shown import show

OWN: Final = ("out", "quiet")  # of the command, not of the run


WHERE, WHEN, WHAT, JUDGED = "Where", "When requests arrive", "What is asked", "What counts"


def option(panel: str, text: str, *names: str, **more: Any) -> Any:
    """An option in a panel of the help."""
    return typer.Option(*names, help=text, rich_help_panel=panel, **more)


def run(
    url: Annotated[str, option(WHERE, "Endpoint; empty = the stack that runs here, or port 8000.")] = "",
    api_key: Annotated[str, option(WHERE, "Its key.", envvar="OUTRIDER_API_KEY")] = "",
    api_key_file: Annotated[Path | None, option(WHERE, "File with it.")] = None,
    model: Annotated[str, option(WHERE, "Empty = the first it serves.")] = "",
    plain: Annotated[
        bool, option(WHERE, "Send OpenAI's fields alone; found out by itself where possible.")
    ] = False,
    metrics: Annotated[
        list[str] | None, option(WHERE, "Prometheus pages of the services; may be given often.")
    ] = None,
    broker: Annotated[str, option(WHERE, "Broker's URL, for the timeline of a stack that traces.")] = "",
    rate: Annotated[float | None, option(WHEN, "Requests per second (1).")] = None,
    arrivals: Annotated[Gaps, option(WHEN, "Gaps between them.")] = "poisson",
    burstiness: Annotated[float, option(WHEN, "Shape of gamma gaps: 1 is Poisson, less is burstier.")] = 1.0,
    stages: Annotated[
        str, option(WHEN, "Rates in turn, RATE:SECONDS or FROM..TO:SECONDS: '2:30 2..20:60'.")
    ] = "",
    trace: Annotated[
        Path | None, option(WHEN, "Recorded arrivals and lengths: Mooncake JSONL, Azure or BurstGPT CSV.")
    ] = None,
    time_scale: Annotated[float, option(WHEN, "2 makes a trace last twice as long.")] = 1.0,
    concurrency: Annotated[
        int | None, option(WHEN, "A closed loop of so many users instead of a rate.", min=1)
    ] = None,
    think: Annotated[float, option(WHEN, "Seconds from an answer to that user's next request.")] = 0.0,
    requests: Annotated[
        int | None, option(WHEN, "So many at most (100, if no duration either).", min=1)
    ] = None,
    duration: Annotated[float | None, option(WHEN, "Seconds of arrivals.")] = None,
    prompts: Annotated[
        str,
        option(
            WHAT,
            "bundled, bundled:code,maths,chat,summary,creative, synthetic, or a file of JSON lines with `prompt`.",
        ),
    ] = "",
    prompt_tokens: Annotated[
        str, option(WHAT, "Of synthetic prompts: 128, 64..256, 128~0.5 (lognormal).")
    ] = "128",
    answer_tokens: Annotated[str, option(WHAT, "At most, likewise.")] = "64",
    ignore_eos: Annotated[bool, option(WHAT, "Have every answer go on to its last token.")] = False,
    temperature: Annotated[float, option(WHAT, "Of all requests.", min=0, max=2)] = 0.0,
    top_p: Annotated[float, option(WHAT, "Of all requests.", min=0, max=1)] = 1.0,
    group: Annotated[
        list[str] | None,
        option(
            WHAT,
            "A share of the requests with settings of its own, may be given often: "
            "'warm weight=2 temperature=0.8 top_p=0.9 answer=64..256'.",
        ),
    ] = None,
    device: Annotated[
        list[str] | None, option(WHAT, "Outrider: devices that are asked for, by turns.")
    ] = None,
    seed: Annotated[int, option(WHAT, "Everything drawn follows from it.", min=0)] = 1,
    warmup: Annotated[
        float, option(JUDGED, "Seconds of arrivals that do not count, at the beginning.")
    ] = 0.0,
    cooldown: Annotated[float, option(JUDGED, "Likewise at the end.")] = 0.0,
    drain: Annotated[float, option(JUDGED, "Seconds that the last requests may take.")] = 120.0,
    timeout: Annotated[float, option(JUDGED, "Seconds of one request.", min=0.001)] = 600.0,
    stall: Annotated[float, option(JUDGED, "Seconds of a stream without a byte.", min=0.001)] = 60.0,
    retries: Annotated[
        int, option(JUDGED, "Of requests refused with 429 or 503, or not connected.", min=0)
    ] = 0,
    goodput: Annotated[str, option(JUDGED, "Limits of a good request in ms: 'ttft:500 tpot:50'.")] = "",
    assertions: Annotated[
        list[str] | None,
        option(JUDGED, "What has to hold, else exit code 1: 'p99_ttft_scheduled_ms<500'.", "--assert"),
    ] = None,
    max_dispatch_ms: Annotated[
        float, option(JUDGED, "Own lateness (p99) beyond which no result is valid.", min=0)
    ] = 10.0,
    label: Annotated[str, typer.Option(help="Name of the run in reports.")] = "",
    out: Annotated[Path, typer.Option(help="Result; rows and a table lie beside it.")] = Path(
        ".outrider/load.json"
    ),
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing meanwhile.")] = False,
) -> None:
    """Send requests as scheduled, and write what happened.

    Open loop unless --concurrency is given: the whole schedule is fixed from the seed before the first request, and a
    slow endpoint changes nothing about it. Ctrl-C ends a run early and keeps what there is.
    """
    given = {name: value for name, value in locals().items() if name not in OWN}
    uvloop.run(_run(asked_of(given), out, quiet))


def asked_of(given: dict[str, Any]) -> Asked:
    """Of the options of `run`."""
    lists = {name: tuple(given[name] or ()) for name in ("metrics", "group", "device", "assertions")}
    return Asked(**{**given, **lists})


async def _run(asked: Asked, out: Path, quiet: bool) -> None:
    console, course = progress_console(), Course()
    with told():
        check_output(out, BESIDE)
    asked, where = await reached(asked)
    end_on_signals(course)
    with told():
        plan = settle(asked, where, asked.model)
        async with Client(
            where.url, where.api_key, where.timeout_s, None, where.stall_s, where.retries, asked.plain
        ) as client:
            with Progress(console, quiet) as live:
                outcome = await watched(plan, course, client, live)
    lost = ""
    try:
        kept = keep(out, lambda path: write(outcome, plan, course, path))
    except OutputError as error:
        kept, lost = None, str(error)
    if not quiet or lost:
        show(console, outcome, kept)
    if kept != out:
        leave(lost or f"{out} cannot be written any more; the result is kept as {kept}")
    judge(console, outcome)


def judge(console: Console, outcome: Outcome) -> None:
    """Exit code 1, and why, for a run that is not valid or does not reach what it was to."""
    for why in outcome.problems:
        console.print(f"[red]not valid:[/] {why}", soft_wrap=True)
    for why in outcome.failed:
        console.print(f"[red]failed:[/] {why}", soft_wrap=True)
    if outcome.problems or outcome.failed:
        raise typer.Exit(EXIT_FAILED)
