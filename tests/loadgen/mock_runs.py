"""A mock server on a free port of this process, and runs against it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import islice

from aiohttp.test_utils import TestServer

from loadgen.client.streaming import Client
from loadgen.mock_server import Mock, application
from loadgen.request import ChatRequest
from loadgen.run.drive import RunState, open_loop
from loadgen.workload.lengths import parse_lengths
from loadgen.workload.prompt_source import of_kinds
from loadgen.workload.schedule import ScheduledRequest, Workload, generate_requests

WORK = Workload("mock", of_kinds(), parse_lengths("8"), parse_lengths("4"))


@asynccontextmanager
async def served(mock: Mock) -> AsyncIterator[str]:
    """The URL of a mock server."""
    async with TestServer(application(mock)) as server:
        yield f"http://127.0.0.1:{server.port}"


def requests(count: int) -> list[ChatRequest]:
    return list(islice(generate_requests(WORK, 1), count))


async def driven(mock: Mock, times: list[float], drain_s: float = 60.0) -> RunState:
    """Send requests at these times and wait for their ends."""
    state = RunState()
    schedule = [
        ScheduledRequest(at, request) for at, request in zip(times, requests(len(times)), strict=True)
    ]
    async with served(mock) as url, Client(url, plain=True) as client:
        await open_loop(client, schedule, state, drain_s)
    return state
