"""Connections to Redis or Valkey. A connection serves one call at a time and is discarded when that call fails.

So a half-read answer is never taken for another call's: a call that is cancelled, times out or loses its peer closes
its own connection and no other. There is no retry, because only the caller knows whether a repeat is harmless.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, Final

import hiredis
from redis import exceptions
from redis.asyncio.connection import AbstractConnection, ConnectionPool

from shared.broker.contract import BrokerAway, BrokerDenied, BrokerFull
from shared.broker.replies import text
from shared.broker.script import script

Argument = str | bytes | int

_pack: Final[Callable[[tuple[Any, ...]], bytes]] = hiredis.pack_command

CALL_S: Final = 3.0  # waiting for a turn, connecting, sending and the answer; less than GRACE_S
MAX_CALLS: Final = 32  # concurrent calls of a process of the core; further ones wait
SPARE_S: Final = 120.0  # how long an unused connection stays open
_LOST: Final = (exceptions.ConnectionError, exceptions.TimeoutError, exceptions.InvalidResponse, OSError)
_DENIED: Final = (
    exceptions.AuthenticationError,
    exceptions.AuthenticationWrongNumberOfArgsError,
    exceptions.NoPermissionError,
)
# Errors of a broker that is temporarily unable to serve.
_NOT_NOW: Final = (exceptions.ReadOnlyError, exceptions.ClusterDownError, exceptions.TryAgainError)
_NOT_NOW_CODES: Final = ("BUSY ", "UNKILLABLE ", "MISCONF ", "NOREPLICAS ")


class Connections:
    """All connections of one process to one broker: as many as there were concurrent calls recently."""

    def __init__(self, url: str, user: str = "", password: str = "", max_calls: int = MAX_CALLS) -> None:
        """max_calls: concurrent calls, without those of `wait`. Raises ValueError for an invalid URL."""
        self._user = f"user {user!r}" if user else "a user without a credential"
        credential = {"username": user, "password": password} if user else {}
        # No time-out on the socket itself: the limit on a call covers it, handshake included.
        pool = ConnectionPool.from_url(
            url,
            protocol=2,
            socket_timeout=None,
            socket_connect_timeout=None,
            socket_keepalive=True,
            driver_info=None,
            **credential,
        )
        self._make = _checked(pool.make_connection)
        # (idle since, connection). The last one is taken first, so unused ones gather at the start.
        self._idle: deque[tuple[float, AbstractConnection]] = deque()
        self._busy: set[AbstractConnection] = set()
        self._turns = asyncio.Semaphore(max_calls)
        self._closed = False

    async def call(self, *command: Argument) -> Any:
        """One command's answer. Raises BrokerAway, BrokerFull, or redis' ResponseError."""
        (answer,) = await self._limited((command,), CALL_S, self._turns)
        return answer

    async def calls(self, *commands: tuple[Argument, ...]) -> list[Any]:
        """The answers of commands sent together. All are tried; raises as `call` for the first that failed."""
        return await self._limited(commands, CALL_S, self._turns)

    async def ping(self) -> float:
        """One round trip, in seconds. Raises as `call`."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        await self.call("PING")
        return loop.time() - start

    async def hash(self, key: str) -> dict[str, str]:
        """A record; {} when there is none. Raises as `call`."""
        parts = [text(part) for part in await self.call("HGETALL", key)]
        return dict(zip(parts[::2], parts[1::2], strict=True))

    async def wait(self, block_s: float, *command: Argument) -> Any:
        """The answer of a command that may block for block_s. It does not count as a call. Raises as `call`."""
        (answer,) = await self._limited((command,), block_s + CALL_S, nullcontext())
        return answer

    async def run(self, name: str, keys: Sequence[str], *arguments: Argument) -> Any:
        """The answer of a script of ours. Raises as `call`. A broker that does not know it yet gets its text."""
        found = script(name)
        try:
            return await self.call("EVALSHA", found.sha, len(keys), *keys, *arguments)
        except exceptions.NoScriptError:
            return await self.call("EVAL", found.text, len(keys), *keys, *arguments)

    async def close(self) -> None:
        """Close all connections. Calls under way and later ones raise BrokerAway. Idempotent."""
        self._closed = True
        for connection in [*(idle for _, idle in self._idle), *self._busy]:
            await connection.disconnect()
        self._idle.clear()

    async def _limited(
        self,
        commands: Sequence[tuple[Argument, ...]],
        limit_s: float,
        turn: asyncio.Semaphore | nullcontext[None],
    ) -> list[Any]:
        try:
            async with asyncio.timeout(limit_s), turn:
                return await self._exchange(commands)
        except _DENIED as error:
            raise BrokerDenied(f"the broker refuses {self._user}: {error}") from error
        except _LOST as error:
            raise BrokerAway(str(error) or f"no answer within {limit_s:g} s") from error
        except exceptions.OutOfMemoryError as error:
            raise BrokerFull(f"the broker's memory is full: {error}") from error
        except exceptions.ResponseError as error:
            if isinstance(error, _NOT_NOW) or str(error).startswith(_NOT_NOW_CODES):
                raise BrokerAway(str(error)) from error
            raise

    async def _exchange(self, commands: Sequence[tuple[Argument, ...]]) -> list[Any]:
        connection = await self._checkout()
        self._busy.add(connection)
        keep, answers, refused = False, [], None
        try:
            if not connection.is_connected:
                await connection.connect_check_health()
            await connection.send_packed_command([_pack(command) for command in commands])
            for _ in commands:
                try:
                    answers.append(await connection.read_response(disable_decoding=True))
                except exceptions.ResponseError as error:  # an answer like any other
                    refused = refused or error
            keep = not self._closed
        finally:
            self._busy.discard(connection)
            if keep:
                await self._give_back(connection)
            else:
                await connection.disconnect(nowait=True)
        if refused is not None:
            raise refused
        return answers

    async def _checkout(self) -> AbstractConnection:
        if self._closed:
            raise BrokerAway("this connection was closed")
        while self._idle:
            _, connection = self._idle.pop()
            usable = False
            try:
                # An idle connection is readable only after its peer closed it.
                usable = not await connection.can_read()
            finally:  # also when the call is cancelled here: `close` no longer knows this connection
                if not usable:
                    await connection.disconnect(nowait=True)
            if usable:
                return connection
        return self._make()

    async def _give_back(self, connection: AbstractConnection) -> None:
        now = asyncio.get_running_loop().time()
        self._idle.append((now, connection))
        if now - self._idle[0][0] > SPARE_S:
            _, spare = self._idle.popleft()
            await spare.disconnect(nowait=True)


def _checked(make: Callable[[], AbstractConnection]) -> Callable[[], AbstractConnection]:
    """`make`, after one trial. Raises ValueError for a URL with unknown options."""
    try:
        make()  # parses the URL's options; does not connect
    except TypeError as error:
        raise ValueError(f"the URL's options after the ? are not understood: {error}") from None
    return make
