"""The `loadgen` command."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import aiohttp
import typer
import uvloop
from aiohttp import web
from rich.console import Console
from rich.status import Status

from loadgen.arrivals import Gaps
from loadgen.client import Client
from loadgen.compare import compare as compare_results
from loadgen.drive import Course
from loadgen.fleet import fleet_figures, run_fleet
from loadgen.live import Progress
from loadgen.loaded import ReportError, read_all
from loadgen.mock_server import FAULTS, Mock, application
from loadgen.options import WRONG, Asked, OptionError, endpoint, settle
from loadgen.report.page import build
from loadgen.result import write_result
from loadgen.run import Endpoint, Onlooker, Outcome, watched, write
from loadgen.shown import show, show_comparison, show_fleet, show_sweep, told
from loadgen.stack_metrics import ScrapeError
from loadgen.sweep import Leg, Sweep, SweepError, legs, parse_entrants, parse_levels, run_sweep
from loadgen.timeline import TimelineError
from shared.broker.contract import BrokerAway
from shared.runtime import logs
from shared.runtime.settings import SettingsError
from shared.scenario.scenario import ScenarioError, read_scenario

EXIT_WRONG: Final = 2  # the command line, or nobody at the endpoint
EXIT_FAILED: Final = 1  # an assertion, or a run that is not valid

app = typer.Typer(
    help="Drives an OpenAI-compatible endpoint and shows what happened. Latencies count from the scheduled arrival.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

WHERE, WHEN, WHAT, JUDGED = "Where", "When requests arrive", "What is asked", "What counts"


def option(panel: str, text: str, *names: str, **more: Any) -> Any:
    """An option in a panel of the help."""
    return typer.Option(*names, help=text, rich_help_panel=panel, **more)


@app.command()
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
    uvloop.run(_run(_asked(given), out, quiet))


OWN: Final = ("out", "quiet")  # of the command, not of the run


def _asked(given: dict[str, Any]) -> Asked:
    """Of the options of `run`."""
    lists = {name: tuple(given[name] or ()) for name in ("metrics", "group", "device", "assertions")}
    return Asked(**{**given, **lists})


async def _run(asked: Asked, out: Path, quiet: bool) -> None:
    console, course = Console(stderr=True), Course()
    asked, where = await _reached(asked)
    _end_on_signals(course)
    with _told():
        plan = settle(asked, where, asked.model)
        async with Client(
            where.url, where.api_key, where.timeout_s, None, where.stall_s, where.retries, asked.plain
        ) as client:
            with Progress(console, quiet) as live:
                outcome = await watched(plan, course, client, live)
    write(outcome, plan, course, out)
    if not quiet:
        show(console, outcome, out)
    _judge(console, outcome)


async def _reached(asked: Asked) -> tuple[Asked, Endpoint]:
    """The endpoint, its model, and whether it knows more than OpenAI's fields."""
    with _told():
        where = endpoint(asked)
    try:
        async with Client(where.url, where.api_key, timeout_s=10) as client:
            model = asked.model or await client.model()
            plain = asked.plain or not await client.is_outrider()
    except aiohttp.ClientConnectorError as error:
        _leave(f"nobody answers at {where.url}: {error.strerror}")
    except (aiohttp.ClientError, TimeoutError, LookupError, ValueError, TypeError) as error:
        _leave(
            f"{where.url}/v1/models: {type(error).__name__}: {error}; is the endpoint up, and the key right?"
        )
    return replace(asked, model=model, plain=plain), where


def _end_on_signals(course: Course) -> None:
    """Ctrl-C ends the run and keeps what there is."""
    for signum in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signum, course.over.set)


OURS: Final = (
    ScrapeError,
    TimelineError,
    OptionError,
    SweepError,
    ReportError,
    ScenarioError,
    SettingsError,
    BrokerAway,
)


@contextmanager
def _told() -> Iterator[None]:
    """Errors that a person can act on are one line."""
    try:
        yield
    except (*OURS, *WRONG) as error:
        _leave(str(error))


def _judge(console: Console, outcome: Outcome) -> None:
    """Exit code 1, and why, for a run that is not valid or does not reach what it was to."""
    for why in outcome.problems:
        console.print(f"[red]not valid:[/] {why}", soft_wrap=True)
    for why in outcome.failed:
        console.print(f"[red]failed:[/] {why}", soft_wrap=True)
    if outcome.problems or outcome.failed:
        raise typer.Exit(EXIT_FAILED)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def sweep(
    context: typer.Context,
    rates: Annotated[str, typer.Option(help="Requests per second, one run each: '0.5,1,2,4'.")] = "",
    users: Annotated[str, typer.Option(help="Or users at once, in closed loops: '1,2,4,8'.")] = "",
    policies: Annotated[
        str, typer.Option(help="Outrider's policies by turns: 'greedy-batch,fixed-k:4,outrider'.")
    ] = "",
    repeats: Annotated[int, typer.Option(min=1, help="Of all of it.")] = 1,
    out: Annotated[Path, typer.Option(help="The whole; its runs lie in a folder of that name.")] = Path(
        ".outrider/sweep.json"
    ),
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing meanwhile.")] = False,
) -> None:
    """Runs over rates or users, for several policies: the knee of each, and where speculation stops paying.

    All other options are those of `loadgen run`, for each of the runs: --duration 30 --answer-tokens 64 --warmup 5 …
    """
    command = typer.main.get_command(app).commands["run"]  # type: ignore[attr-defined]
    given = command.make_context("run", context.args).params
    asked = _asked({name: value for name, value in given.items() if name not in OWN})
    with _told():
        if bool(rates) == bool(users):
            raise SweepError("--rates or --users, one of them, says what to sweep over")
        levels = parse_levels(rates, "rates") if rates else parse_levels(users, "users")
        wanted = Sweep(levels, bool(rates), parse_entrants(policies), repeats)
    uvloop.run(_sweep(wanted, asked, out, quiet))


async def _sweep(wanted: Sweep, asked: Asked, out: Path, quiet: bool) -> None:
    console, over = Console(stderr=True), Course()
    asked, _ = await _reached(asked)
    _end_on_signals(over)
    total, unit = len(list(legs(wanted))), "requests/s" if wanted.open_loop else "users"
    with _told(), Progress(console, quiet) as live:

        def course_of(leg: Leg) -> tuple[Course, Onlooker]:
            if not quiet:
                console.print(f"[{leg.number} of {total}] {leg.entrant}, {leg.level:g} {unit}", markup=False)
            return Course(over.over), live

        whole = await run_sweep(wanted, asked, asked.model, out, course_of)
    show_sweep(console, whole, out)


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(help="A result of `loadgen run`.")],
    second: Annotated[Path, typer.Argument(help="Another.")],
) -> None:
    """Two results side by side: second / first with 95 % intervals."""
    with _told():
        mine, theirs = read_all([first, second])
        if not (mine.records and theirs.records):
            raise ReportError(
                "a comparison is of two results of `loadgen run`, with their requests beside them"
            )
    show_comparison(Console(), mine.label, theirs.label, compare_results(mine, theirs))


@app.command()
def report(
    results: Annotated[list[Path], typer.Argument(help="Of `run` or `sweep`; several are compared.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The page.")] = Path("report.html"),
) -> None:
    """One page to look at, all in one file; beside it a trace for Perfetto where the stack wrote its timeline."""
    with _told():
        build(results, out)
    typer.echo(f"written to {out}")


@app.command()
def fleet(
    scenario: Annotated[Path, typer.Argument(help="Devices, links and speeds; scenarios/*.yaml are some.")],
    broker: Annotated[str, typer.Option(help="Its URL; empty = that of the stack that runs here.")] = "",
    recordings: Annotated[
        Path | None,
        typer.Option(
            help="What the target said (`outrider bench policies` records it), for a real verifier."
        ),
    ] = None,
    verify_ms: Annotated[float, typer.Option(min=0.001, help="The scenario's unit `verify`.")] = 40.0,
    seconds: Annotated[float | None, typer.Option(min=1, help="For so long; else until Ctrl-C.")] = None,
    out: Annotated[Path, typer.Option(help="What was seen, second by second.")] = Path(
        ".outrider/fleet.json"
    ),
) -> None:
    """Stand in for edge devices: each a draft worker's own shell with its own link, all in this process.

    Without recordings drafts are modelled, which goes with a modelled verifier:
    `outrider up --modelled --draft-workers 0`.
    """
    uvloop.run(_fleet(scenario, broker or endpoint(Asked()).broker, recordings, verify_ms, seconds, out))


async def _fleet(
    scenario: Path, broker: str, recordings: Path | None, verify_ms: float, seconds: float | None, out: Path
) -> None:
    console, over = Console(stderr=True), Course()
    with _told():
        if not broker:
            raise OptionError("no stack runs here: give the broker's URL with --broker")
        logs.configure("warning", "console", role="loadgen")
        devices = read_scenario(scenario).fleet(verify_ms)
        _end_on_signals(over)
        with Status(f"{len(devices)} devices join", console=console) as status:
            looks = await run_fleet(
                devices, recordings, broker, over.over, seconds, lambda look: status.update(told(look))
            )
    config = {"scenario": str(scenario), "devices": len(devices), "recordings": str(recordings or "")}
    figures = fleet_figures(looks)
    write_result(out, "fleet", config, {"figures": figures, "looks": [asdict(look) for look in looks]})
    show_fleet(console, figures, out)


@app.command("mock-server")
def mock_server(
    port: Annotated[int, typer.Option(help="On 127.0.0.1.")] = 8001,
    workers: Annotated[int, typer.Option(min=1, help="Requests served at once; others wait.")] = 1,
    service_ms: Annotated[float, typer.Option(min=0, help="Time that a request is served for.")] = 100.0,
    exponential: Annotated[bool, typer.Option(help="Draw that time, with service_ms as its mean.")] = False,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens of an answer.")] = 4,
    burst: Annotated[int, typer.Option(min=1, help="Tokens of one event.")] = 1,
    key: Annotated[str, typer.Option(help="Refuse requests without it.")] = "",
    fault: Annotated[
        list[str] | None,
        typer.Option(help="KIND:N breaks every N-th answer; KIND: 429, 503, cut, garbage, stall, error."),
    ] = None,
) -> None:
    """A deterministic OpenAI-compatible server, to try a load generator on."""
    faults: dict[int, Any] = {}
    for text in fault or ():
        kind, _, every = text.partition(":")
        if kind not in FAULTS or not every.isdigit() or int(every) < 1:
            _leave(f"--fault {text}: KIND:N is meant, with one of {', '.join(FAULTS)}")
        faults[int(every)] = kind
    mock = Mock(workers, service_ms / 1e3, exponential, tokens, burst, key, faults=faults)
    uvloop.install()
    web.run_app(application(mock), host="127.0.0.1", port=port, access_log=None)


def _leave(message: str) -> NoReturn:
    typer.echo(f"loadgen: {message}", err=True)
    raise typer.Exit(EXIT_WRONG)


def main() -> None:
    """Entry point."""
    app()


if __name__ == "__main__":
    main()
