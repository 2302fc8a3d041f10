"""`loadgen mock-server`."""

from typing import Annotated, Any, Final

import typer
import uvloop
from aiohttp import web

from loadgen.commands.exit import fail
from loadgen.mock_server import FAULTS, Mock, application
from loadgen.run.runner import allow_sockets

SHUTDOWN_S: Final = (
    1.0  # for answers under way; aiohttp's own minute would outlast the patience of who started it
)


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
            fail(f"--fault {text}: KIND:N is meant, with one of {', '.join(FAULTS)}")
        faults[int(every)] = kind
    mock = Mock(workers, service_ms / 1e3, exponential, tokens, burst, key, faults=faults)
    allow_sockets()
    uvloop.install()
    web.run_app(application(mock), host="127.0.0.1", port=port, access_log=None, shutdown_timeout=SHUTDOWN_S)
