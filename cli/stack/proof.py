"""Proof that the servers on a stack's ports belong to it, and not to another stack or another program."""

import asyncio
from typing import Final

import aiohttp

from cli.command.errors import ProcessFailed
from cli.stack.access import Access
from cli.stack.ports import HOST
from cli.stack.processes import Supervised
from shared.broker.embedded import NotABroker, server_pid
from shared.runtime.health import STACK_HEADER

BROKER_TIMEOUT_S: Final = 10.0
BROKER_POLL_S: Final = 0.02
USER: Final = "gateway"  # a user of the broker that may read the server's process id


async def broker_is_ours(process: Supervised, port: int, access: Access | None) -> bool:
    """Wait until the broker answers; True if it is this process, False if the process has ended meanwhile.

    access: passwords of the broker; None = it has none. Raises ProcessFailed when another server answers, or none does
    for BROKER_TIMEOUT_S.
    """
    password = access.password_file(USER).read_text(encoding="utf-8").strip() if access else ""
    try:
        async with asyncio.timeout(BROKER_TIMEOUT_S):
            while True:
                pid = await server_pid(HOST, port, USER if access else "", password)
                if pid is not None and pid not in process.pids:
                    raise ProcessFailed(_foreign(port, f"a server with process id {pid} answers there"))
                if pid is not None or not process.pid:
                    return pid is not None
                await asyncio.sleep(BROKER_POLL_S)
    except NotABroker as error:
        raise ProcessFailed(_foreign(port, str(error))) from None
    except TimeoutError:
        raise ProcessFailed(
            f"the broker does not answer on port {port} within {BROKER_TIMEOUT_S:g} s: {process.last_words()}"
        ) from None


async def not_ready_reason(session: aiohttp.ClientSession, url: str, stack_id: str) -> str:
    """Why a service is not ready; "" = it is. Raises ProcessFailed when a server that is not of this stack answers."""
    try:
        async with session.get(url) as response:
            if response.headers.get(STACK_HEADER) != stack_id:
                raise ProcessFailed(
                    f"the server at {url} does not belong to this stack; choose other ports with --health-port"
                )
            return "" if response.status == 200 else (await response.text()).strip()
    except (aiohttp.ClientError, TimeoutError) as error:
        return f"no answer from {url} ({type(error).__name__})"


def _foreign(port: int, what: str) -> str:
    return f"port {port} is not this stack's broker: {what}; choose another with --broker-port"
