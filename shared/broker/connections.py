"""Connections to Redis or Valkey. A connection serves one call at a time and is discarded when that call fails.

So nothing half-read is ever used again: a call that is cancelled, times out or loses its peer closes its own
connection and no other. There is no retry: the caller knows whether a repeat is harmless.
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
MOST_CALLS: Final = 32  # at once, of a process of the core; further ones wait for a turn
SPARE_S: Final = 120.0  # how long a connection that nobody needs stays open
_LOST: Final = (exceptions.ConnectionError, exceptions.TimeoutError, exceptions.InvalidResponse, OSError)
_DENIED: Final = (
    exceptions.AuthenticationError,
    exceptions.AuthenticationWrongNumberOfArgsError,
    exceptions.NoPermissionError,
)
# Answers of a broker that will serve again but not now.
_NOT_NOW: Final = (exceptions.ReadOnlyError, exceptions.ClusterDownError, exceptions.TryAgainError)
_NOT_NOW_CODES: Final = ("BUSY ", "UNKILLABLE ", "MISCONF ", "NOREPLICAS ")


class Connections:
    """All connections of one process to one broker: as many as calls coincided of late."""

    def __init__(self, url: str, user: str = "", password: str = "", most_calls: int = MOST_CALLS) -> None:
        """most_calls: at once; `wait` does not count. Raises ValueError on a URL that cannot be."""
        self._user = f"user {user!r}" if user else "whoever has no credential"
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
        # (since when, connection), the one last used at the end, which is taken first: spare ones are at the beginning
        self._idle: deque[tuple[float, AbstractConnection]] = deque()
        self._busy: set[AbstractConnection] = set()
        self._turns = asyncio.Semaphore(most_calls)
        self._closed = False

    async def call(self, *command: Argument) -> Any:
        """One command's answer. Raises BrokerAway, BrokerFull, or redis' ResponseError."""
        (answer,) = await self._limited((command,), CALL_S, self._turns)
        return answer

    async def calls(self, *commands: tuple[Argument, ...]) -> list[Any]:
        """The answers of some commands sent at once. Raises as `call`, for the first that failed; all were tried."""
        return await self._limited(commands, CALL_S, self._turns)

    async def ping(self) -> float:
        """One round trip, in seconds. Raises as `call`."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        await self.call("PING")
        return loop.time() - start

    async def hash(self, key: str) -> dict[str, str]:
        """A small hash of texts; {} when there is none. Raises as `call`."""
        parts = [text(part) for part in await self.call("HGETALL", key)]
        return dict(zip(parts[::2], parts[1::2], strict=True))

    async def wait(self, block_s: float, *command: Argument) -> Any:
        """The answer of a command that may block for block_s; takes no other call's turn. Raises as `call`."""
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
        """Close all. Calls under way and later ones raise BrokerAway. Idempotent."""
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
            if not await connection.can_read():  # between calls there is nothing, unless the peer closed
                return connection
            await connection.disconnect(nowait=True)
        return self._make()

    async def _give_back(self, connection: AbstractConnection) -> None:
        now = asyncio.get_running_loop().time()
        self._idle.append((now, connection))
        if now - self._idle[0][0] > SPARE_S:
            _, spare = self._idle.popleft()
            await spare.disconnect(nowait=True)


def _checked(make: Callable[[], AbstractConnection]) -> Callable[[], AbstractConnection]:
    """What makes connections, once it has made one. Raises ValueError on a URL with options that do not exist."""
    try:
        make()  # reads what stands after the ? of the URL; connects nothing
    except TypeError as error:
        raise ValueError(f"what stands after the ? is not understood: {error}") from None
    return make
