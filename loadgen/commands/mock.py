"""`loadgen mock-server`."""

from typing import Annotated, Any, Final

import typer
import uvloop
from aiohttp import web

from loadgen.commands.exit import fail
from loadgen.mock_server import FAULTS, Mock, application
from loadgen.run.runner import raise_file_limit

SHUTDOWN_S: Final = 1.0  # for answers in progress; aiohttp's default is a minute


def mock_server(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")] = 8001,
    workers: Annotated[int, typer.Option(min=1, help="Requests served at once; the others wait.")] = 1,
    service_ms: Annotated[float, typer.Option(min=0, help="Service time of a request.")] = 100.0,
    exponential: Annotated[
        bool, typer.Option(help="Exponential service times with mean --service-ms.")
    ] = False,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens per answer.")] = 4,
    burst: Annotated[int, typer.Option(min=1, help="Tokens per event.")] = 1,
    key: Annotated[str, typer.Option(help="API key that requests must have.")] = "",
    fault: Annotated[
        list[str] | None,
        typer.Option(
            help="KIND:N injects a fault into every N-th answer; KIND: 429, 503, cut, garbage, stall, error."
        ),
    ] = None,
) -> None:
    """Run a deterministic OpenAI-compatible server for tests of load generators."""
    faults: dict[int, Any] = {}
    for text in fault or ():
        kind, _, every = text.partition(":")
        if kind not in FAULTS or not every.isdigit() or int(every) < 1:
            fail(f"--fault {text}: give KIND:N, with KIND one of {', '.join(FAULTS)}")
        faults[int(every)] = kind
    mock = Mock(workers, service_ms / 1e3, exponential, tokens, burst, key, faults=faults)
    raise_file_limit()
    uvloop.install()
    web.run_app(application(mock), host="127.0.0.1", port=port, access_log=None, shutdown_timeout=SHUTDOWN_S)
