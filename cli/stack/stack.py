"""A local stack: all services as processes on an embedded broker. `outrider up`, the demo and the tests use it."""

import asyncio
import os
from types import TracebackType
from typing import Final

import aiohttp

from cli.command.errors import ProcessFailed
from cli.stack.ports import HOST, Ports, check
from cli.stack.processes import STOP_S, Supervised, note
from cli.stack.proof import BROKER_POLL_S, broker_is_ours, not_ready_reason
from cli.stack.specs import STAGE, StackOptions, access_of, claims, specs
from shared.runtime.ids import Ids
from shared.runtime.stack_state import FileLock, State, claim, read_state, start_of, state_file, write_state

__all__ = ["HOST", "LocalStack", "Ports", "StackOptions", "access_of", "read_state", "specs"]

READY_S: Final = 120.0
POLL_S: Final = 0.1
UNREADY_STOP_S: Final = 1.0  # time for a process to stop if the stack was never ready: no user is served


class LocalStack:
    """A stack that can be started, awaited, watched and stopped. `async with LocalStack(options)` does all four.

    Leaving the block raises ProcessFailed if a process died unexpectedly: the stack recovers from that, but then a test
    or measurement has not seen what it assumes. id: returned by the health pages of its processes. given_up: devices
    that exited permanently after the stack was ready, with reasons; the stack goes on without them.
    """

    def __init__(self, options: StackOptions) -> None:
        self.options = options
        self.id = Ids().token(16)
        self.given_up: dict[str, str] = {}
        log_dir = options.state_dir / "logs"
        self.processes = {
            spec.name: Supervised(spec, log_dir, self._confirm_broker if spec.name == "broker" else None)
            for spec in specs(options, self.id)
        }
        self._watchers: list[asyncio.Task[None]] = []
        self._lock: FileLock | None = None
        self._was_ready = False

    @property
    def url(self) -> str:
        """URL of the gateway."""
        return f"http://{HOST}:{self.options.ports.gateway}"

    @property
    def broker_url(self) -> str:
        """URL of the embedded broker."""
        return f"redis://{HOST}:{self.options.ports.broker}/0"

    @property
    def join_url(self) -> str:
        """URL of the broker for remote devices; "" when it does not listen for them."""
        listen = self.options.listen
        return f"redis://{_bracketed(listen)}:{self.options.ports.broker}/0" if listen else ""

    async def __aenter__(self) -> "LocalStack":
        try:
            await self.start()
            await self.wait_ready()
        except BaseException:  # also Ctrl-C: no process may be left running; raised again
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
        deaths = [death for process in self.processes.values() for death in process.deaths]
        if deaths and kind is None:
            raise ProcessFailed("; ".join(deaths))

    def claim(self) -> None:
        """Lock the state folder and check that the ports are free. Raises StateError, CommandError."""
        self._lock = claim(self.options.state_dir)
        try:
            check(claims(self.options))
        except BaseException:  # also Ctrl-C: the folder must not stay locked; raised again
            self._lock.release()
            self._lock = None
            raise

    async def start(self) -> None:
        """Start all processes, the broker first. Raises StateError, CommandError, ProcessFailed."""
        if self._lock is None:
            self.claim()
        if self.options.listen:
            access = access_of(self.options.state_dir)
            async with access.locked():
                access.prepare()
        self._write_state()
        for process in self.processes.values():
            await process.start()
            self._watchers.append(asyncio.create_task(self._watch(process), name=process.spec.name))
            if process.spec.name == "broker":
                while not process.was_ready:
                    await asyncio.sleep(BROKER_POLL_S)
                    self.raise_if_failed()
                    await self._confirm_broker(process)

    async def wait_ready(self, timeout_s: float = READY_S) -> None:
        """Wait until all services are ready. Raises ProcessFailed, TimeoutError."""
        waiting = {name: process for name, process in self.processes.items() if process.spec.ready_url}
        reasons: dict[str, str] = {}
        timeout = aiohttp.ClientTimeout(total=2)
        try:
            async with asyncio.timeout(timeout_s), aiohttp.ClientSession(timeout=timeout) as session:
                while True:
                    self.raise_if_failed()
                    reasons = await self._reasons(session, waiting)
                    for name in waiting.keys() - reasons.keys():
                        waiting.pop(name).was_ready = True
                    if not waiting:
                        break
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            name = next(iter(waiting))
            why = reasons.get(name, "no answer yet")
            raise TimeoutError(f"{name} is not ready after {timeout_s:.0f} s: {why}") from None
        self.raise_if_failed()
        self._was_ready = True

    def raise_if_failed(self) -> None:
        """Raise ProcessFailed if a process, or a device, has ended permanently."""
        for watcher in self._watchers:
            if watcher.done() and not watcher.cancelled() and watcher.exception():
                raise ProcessFailed(str(watcher.exception()))
        if self.given_up:
            raise ProcessFailed("; ".join(self.given_up.values()))

    async def watch(self) -> None:
        """Run until a process that the stack needs ends permanently: raises ProcessFailed."""
        await asyncio.gather(*self._watchers)

    async def stop(self) -> None:
        """Stop all processes in an order that loses nothing: gateway first, broker last."""
        core = ["verifier", *(name for name in self.processes if name.startswith(STAGE))]
        rest = [name for name in self.processes if name not in ("gateway", "broker", *core)]
        steps = [["gateway"], rest, core, ["broker"]] if self._was_ready else [list(self.processes)]
        for names in steps:
            step = [self.processes[name] for name in names if name in self.processes]
            await asyncio.gather(*(p.stop(STOP_S if self._was_ready else UNREADY_STOP_S) for p in step))
        for watcher in self._watchers:
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)
        if self._lock is not None:  # otherwise the state file belongs to another stack
            state_file(self.options.state_dir).unlink(missing_ok=True)
            self._lock.release()
            self._lock = None

    async def _watch(self, process: Supervised) -> None:
        """Keep a process running. Once the stack was ready, a device that ends permanently does not end the stack."""
        try:
            await process.watch()
        except ProcessFailed as error:
            if not (process.spec.device and self._was_ready):
                raise
            self.given_up[process.spec.name] = str(error)
            process.deaths.append(str(error))
            note(f"{error}; it is given up, the others go on")
            try:
                self._write_state()
            except OSError as full:
                note(f"{state_file(self.options.state_dir)}: {full}")

    async def _confirm_broker(self, process: Supervised) -> None:
        """Mark the broker's process as ready once it answers on its port. Raises ProcessFailed if another one does."""
        access = access_of(self.options.state_dir) if self.options.listen else None
        if await broker_is_ours(process, self.options.ports.broker, access):
            process.was_ready = True

    async def _reasons(
        self, session: aiohttp.ClientSession, waiting: dict[str, Supervised]
    ) -> dict[str, str]:
        """Reasons by name of the services that are not ready."""
        urls = [process.spec.ready_url for process in waiting.values()]
        answers = await asyncio.gather(*(not_ready_reason(session, url, self.id) for url in urls))
        return {name: why for name, why in zip(waiting, answers, strict=True) if why}

    def _write_state(self) -> None:
        urls = [process.spec.ready_url for process in self.processes.values() if process.spec.ready_url]
        state = State(
            pid=os.getpid(),
            started=start_of(os.getpid()),
            stack=self.id,
            url=self.url,
            broker_url=self.broker_url,
            join_url=self.join_url,
            metrics=tuple(url.replace("/readyz", "/metrics") for url in urls),
            given_up=dict(self.given_up),
        )
        write_state(self.options.state_dir, state)


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
