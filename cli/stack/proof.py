"""Proof that whatever answers at a stack's ports belongs to it: another stack, or anything else, may have them."""

import asyncio
from typing import Final

import aiohttp

from cli.command.errors import ProcessFailed
from cli.stack.access import Access
from cli.stack.ports import HOST
from cli.stack.processes import Supervised
from shared.broker.embedded import NotABroker, server_pid
from shared.runtime.health import STACK_HEADER

BROKER_S: Final = 10.0
BROKER_POLL_S: Final = 0.02
ASKER: Final = "gateway"  # a user of the broker that may ask which process it is


async def broker_is_ours(process: Supervised, port: int, access: Access | None) -> bool:
    """Wait until the broker answers. False when its process has ended meanwhile.

    access: where a broker with passwords has them. Raises ProcessFailed when another server answers, or none for
    BROKER_S.
    """
    password = access.password_file(ASKER).read_text(encoding="utf-8").strip() if access else ""
    try:
        async with asyncio.timeout(BROKER_S):
            while True:
                pid = await server_pid(HOST, port, ASKER if access else "", password)
                if pid is not None and pid not in process.pids:
                    raise ProcessFailed(_foreign(port, f"the server of process {pid} answers there"))
                if pid is not None or not process.pid:
                    return pid is not None
                await asyncio.sleep(BROKER_POLL_S)
    except NotABroker as error:
        raise ProcessFailed(_foreign(port, str(error))) from None
    except TimeoutError:
        raise ProcessFailed(
            f"the broker does not answer at port {port} within {BROKER_S:g} s: {process.last_words()}"
        ) from None


async def not_ready_reason(session: aiohttp.ClientSession, url: str, stack_id: str) -> str:
    """Why a service of this stack is not ready; "" when it is. Raises ProcessFailed when another one answers."""
    try:
        async with session.get(url) as response:
            if response.headers.get(STACK_HEADER) != stack_id:
                raise ProcessFailed(
                    f"what answers at {url} does not belong to this stack; choose other ports with --health-port"
                )
            return "" if response.status == 200 else (await response.text()).strip()
    except (aiohttp.ClientError, TimeoutError) as error:
        return f"no answer from {url} ({type(error).__name__})"


def _foreign(port: int, what: str) -> str:
    return f"port {port} is not this stack's broker: {what}; choose another with --broker-port"
