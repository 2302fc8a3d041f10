"""Connections to Redis or Valkey. A connection serves one call at a time and is discarded when that call fails.

So nothing half-read is ever used again: a call that is cancelled, times out or loses its peer closes its own
connection and no other. There is no retry: the caller knows whether a repeat is harmless.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, Final

import hiredis
from redis import exceptions
from redis.asyncio.connection import AbstractConnection, ConnectionPool

from shared.broker.contract import BrokerAway, BrokerFull
from shared.broker.script import Script

Argument = str | bytes | int

_pack: Final[Callable[[tuple[Any, ...]], bytes]] = hiredis.pack_command

CALL_S: Final = 3.0  # waiting for a turn, connecting, sending and the answer; less than GRACE_S
MOST_CALLS: Final = 32  # at once; further ones wait for a turn
_LOST: Final = (exceptions.ConnectionError, exceptions.TimeoutError, exceptions.InvalidResponse, OSError)
# Answers of a broker that will serve again but not now.
_NOT_NOW: Final = (exceptions.ReadOnlyError, exceptions.ClusterDownError, exceptions.TryAgainError)
_NOT_NOW_CODES: Final = ("BUSY ", "UNKILLABLE ", "MISCONF ", "NOREPLICAS ")


class Connections:
    """All connections of one process to one broker."""

    def __init__(self, url: str) -> None:
        # No time-out on the socket itself: the limit on a call covers it, handshake included.
        pool = ConnectionPool.from_url(
            url,
            protocol=2,
            socket_timeout=None,
            socket_connect_timeout=None,
            socket_keepalive=True,
            driver_info=None,
        )
        self._make: Callable[[], AbstractConnection] = pool.make_connection
        self._idle: list[AbstractConnection] = []
        self._busy: set[AbstractConnection] = set()
        self._turns = asyncio.Semaphore(MOST_CALLS)
        self._closed = False

    async def call(self, *command: Argument) -> Any:
        """One command's answer. Raises BrokerAway, BrokerFull, or redis' ResponseError."""
        return await self._limited(command, CALL_S, self._turns)

    async def wait(self, block_s: float, *command: Argument) -> Any:
        """The answer of a command that may block for block_s; takes no other call's turn. Raises as `call`."""
        return await self._limited(command, block_s + CALL_S, nullcontext())

    async def run(self, script: Script, keys: Sequence[str], *arguments: Argument) -> Any:
        """A script's answer. Raises as `call`. A broker that does not know the script yet is given it."""
        try:
            return await self.call("EVALSHA", script.sha, len(keys), *keys, *arguments)
        except exceptions.NoScriptError:
            return await self.call("EVAL", script.text, len(keys), *keys, *arguments)

    async def close(self) -> None:
        """Close all. Calls under way and later ones raise BrokerAway. Idempotent."""
        self._closed = True
        for connection in [*self._idle, *self._busy]:
            await connection.disconnect()
        self._idle.clear()

    async def _limited(
        self, command: tuple[Argument, ...], limit_s: float, turn: asyncio.Semaphore | nullcontext[None]
    ) -> Any:
        try:
            async with asyncio.timeout(limit_s), turn:
                return await self._exchange(command)
        except _LOST as error:
            raise BrokerAway(str(error) or f"no answer within {limit_s:g} s") from error
        except exceptions.OutOfMemoryError as error:
            raise BrokerFull(f"the broker's memory is full: {error}") from error
        except exceptions.ResponseError as error:
            if isinstance(error, _NOT_NOW) or str(error).startswith(_NOT_NOW_CODES):
                raise BrokerAway(str(error)) from error
            raise

    async def _exchange(self, command: tuple[Argument, ...]) -> Any:
        connection = await self._checkout()
        self._busy.add(connection)
        keep = False
        try:
            if not connection.is_connected:
                await connection.connect_check_health()
            await connection.send_packed_command(_pack(command))
            answer = await connection.read_response(disable_decoding=True)
            keep = not self._closed
        except exceptions.ResponseError:  # an answer like any other
            keep = not self._closed
            raise
        finally:
            self._busy.discard(connection)
            if keep:
                self._idle.append(connection)
            else:
                await connection.disconnect(nowait=True)
        return answer

    async def _checkout(self) -> AbstractConnection:
        if self._closed:
            raise BrokerAway("this connection was closed")
        while self._idle:
            connection = self._idle.pop()
            if (
                not await connection.can_read()
            ):  # between calls there is nothing to read, unless the peer closed
                return connection
            await connection.disconnect(nowait=True)
        return self._make()
