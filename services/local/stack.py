"""All services as local processes on the embedded broker: what `outrider up`, the demo and the tests run."""

import asyncio
import json
import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import aiohttp

from services.local.access import Access
from services.local.processes import ProcessFailed, Spec, Supervised
from shared.broker.access import CORE
from shared.broker.embedded import server_argv
from shared.runtime.ids import Ids

READY_S: Final = 120.0
# On one machine drafts get the time that verification leaves: everybody waits for a verification, and its threads
# wait for each other, so that one that is held up holds up all.
DRAFT_NICE: Final = 10
HOST: Final = "127.0.0.1"
NOT_OUTGOING: Final = (10_000, 32_000)  # systems give outgoing connections higher ports


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the stack listens. Draft worker i has health + 3 + i."""

    gateway: int = 8000
    broker: int = 6399
    health: int = 9101  # gateway, then scheduler, verifier, draft workers

    @staticmethod
    def free() -> "Ports":
        """Ports nobody uses now: for tests, beside a running stack."""
        return Ports(gateway=_free_run(1), broker=_free_run(1), health=_free_run(8))


@dataclass(frozen=True, slots=True)
class Options:
    """What to run. target_dir and draft_model are files; modelled needs neither."""

    target_dir: Path | None = None
    draft_model: Path | None = None
    served_name: str = ""
    modelled: bool = False
    draft_workers: int = 2
    ports: Ports = field(default_factory=Ports)
    state_dir: Path = Path(".outrider")
    env: Mapping[str, str] = field(default_factory=dict)  # further settings for every service
    listen: str = ""  # an address of this machine at which devices reach the broker; "" = none do
    devices: tuple[str, ...] = ()  # arguments of services.draft_worker.fleet; () = no emulated devices


class LocalStack:
    """Start, wait until ready, watch, stop. `async with LocalStack(options) as stack` does all four.

    Its end raises ProcessFailed when a process had died by itself meanwhile: others hide that well, as they should,
    but what was measured or tested is then not what it seems.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        log_dir = options.state_dir / "logs"
        if options.listen:
            access_of(options.state_dir).prepare()
        self.processes = {spec.name: Supervised(spec, log_dir) for spec in specs(options)}
        self._watchers: list[asyncio.Task[None]] = []

    @property
    def url(self) -> str:
        """Of the gateway."""
        return f"http://{HOST}:{self.options.ports.gateway}"

    @property
    def broker_url(self) -> str:
        """Of the embedded broker."""
        return f"redis://{HOST}:{self.options.ports.broker}/0"

    @property
    def join_url(self) -> str:
        """The same for devices elsewhere; "" when it is not open to them."""
        listen = self.options.listen
        return f"redis://{_bracketed(listen)}:{self.options.ports.broker}/0" if listen else ""

    async def __aenter__(self) -> "LocalStack":
        try:
            await self.start()
            await self.wait_ready()
        except BaseException:  # Ctrl-C as well: no process may be left behind
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

    async def start(self) -> None:
        """Start every process, broker first."""
        for process in self.processes.values():
            await process.start()
            self._watchers.append(asyncio.create_task(process.watch(), name=process.spec.name))
            if process.spec.name == "broker":
                await self._until_listening(self.options.ports.broker)
        self._write_state()

    async def wait_ready(self, timeout_s: float = READY_S) -> None:
        """Until every service says it is ready. Raises ProcessFailed or TimeoutError with the reason."""
        timeout = aiohttp.ClientTimeout(total=2)
        reason = ""
        try:
            async with asyncio.timeout(timeout_s), aiohttp.ClientSession(timeout=timeout) as session:
                for process in self.processes.values():
                    while (reason := await _objection(session, process.spec.ready_url)) != "":
                        self.raise_if_failed()
                        await asyncio.sleep(0.1)
        except TimeoutError:
            raise TimeoutError(
                f"{process.spec.name} is not ready after {timeout_s:.0f} s: {reason}"
            ) from None

    def raise_if_failed(self) -> None:
        """Raise ProcessFailed if a process ended for good."""
        for watcher in self._watchers:
            if watcher.done() and not watcher.cancelled() and watcher.exception():
                raise ProcessFailed(str(watcher.exception()))

    async def watch(self) -> None:
        """Until a process ends for good: raises ProcessFailed."""
        await asyncio.gather(*self._watchers)

    async def stop(self) -> None:
        """Stop in the order that loses nothing: gateway first, broker last."""
        order = [
            "gateway",
            *(n for n in self.processes if n not in ("gateway", "broker", "verifier")),
            "verifier",
        ]
        for names in ([order[0]], order[1:-1], [order[-1]], ["broker"]):
            await asyncio.gather(*(self.processes[name].stop() for name in names))
        for watcher in self._watchers:
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)
        state_file(self.options.state_dir).unlink(missing_ok=True)

    async def _until_listening(self, port: int) -> None:
        async with asyncio.timeout(10):
            while True:
                self.raise_if_failed()
                try:
                    _, writer = await asyncio.open_connection(HOST, port)
                except OSError:
                    await asyncio.sleep(0.02)
                    continue
                writer.close()
                await writer.wait_closed()
                return

    def _write_state(self) -> None:
        state = {
            "pid": os.getpid(),
            "url": self.url,
            "broker_url": self.broker_url,
            "join_url": self.join_url,
            "metrics": [
                process.spec.ready_url.replace("/readyz", "/metrics")
                for process in self.processes.values()
                if process.spec.ready_url
            ],
        }
        self.options.state_dir.mkdir(parents=True, exist_ok=True)
        state_file(self.options.state_dir).write_text(json.dumps(state) + "\n")


def access_of(state_dir: Path) -> Access:
    """Passwords and devices of the stack that keeps its state here."""
    return Access(state_dir.resolve() / "access")


def state_file(state_dir: Path) -> Path:
    """Where a running stack says who and where it is."""
    return state_dir / "up.json"


def read_state(state_dir: Path) -> dict[str, Any] | None:
    """Of the running stack; None when there is none (a stale file counts as none)."""
    try:
        state: dict[str, Any] = json.loads(state_file(state_dir).read_text())
        os.kill(int(state["pid"]), 0)
    except (OSError, ValueError, KeyError):
        return None
    return state


def specs(options: Options) -> list[Spec]:
    """Every process of the stack, in starting order."""
    ports = options.ports
    common = {
        "OUTRIDER_BROKER_URL": f"redis://{HOST}:{ports.broker}/0",
        "OUTRIDER_MODEL_DIR": str(options.target_dir or ""),
        **options.env,
    }
    if options.modelled:
        common |= {"OUTRIDER_TARGET": "modelled"}
        drafting = {"OUTRIDER_DRAFTER": "modelled"}
    else:
        drafting = {"OUTRIDER_DRAFT_MODEL": str(options.draft_model or ""), "OUTRIDER_NICE": str(DRAFT_NICE)}
    services = [
        ("verifier", "verifier", 2, {"OUTRIDER_NAME": "verifier"}),
        ("scheduler", "scheduler", 1, {"OUTRIDER_NAME": "scheduler"}),
        *(
            (f"draft-worker-{i}", "draft_worker", 3 + i, {"OUTRIDER_NAME": f"device-{i}", **drafting})
            for i in range(options.draft_workers)
        ),
        *(
            [("devices", "draft_worker.fleet", 3 + options.draft_workers, {"OUTRIDER_NAME": "device"})]
            if options.devices
            else []
        ),
        (
            "gateway",
            "gateway",
            0,
            {
                "OUTRIDER_NAME": "gateway",
                "OUTRIDER_PORT": str(ports.gateway),
                "OUTRIDER_SERVED_NAME": options.served_name,
            },
        ),
    ]
    access, credentials = access_of(options.state_dir), dict[str, dict[str, str]]()
    if options.listen:
        for role in CORE:
            credentials[role.replace("-", "_")] = {
                "OUTRIDER_BROKER_USER": role,
                "OUTRIDER_BROKER_PASSWORD_FILE": str(access.password_file(role)),
            }
        credentials["scheduler"]["OUTRIDER_DEVICES_FILE"] = str(access.devices_file)
    server = server_argv(
        HOST, ports.broker, listen=options.listen, access_list=str(access.acl_file) if options.listen else ""
    )
    return [
        Spec("broker", server),
        *(
            Spec(
                name,
                (
                    sys.executable,
                    "-m",
                    f"services.{package}",
                    *(options.devices if name == "devices" else ()),
                ),
                {
                    **common,
                    **credentials.get(package.split(".")[0], {}),
                    **own,
                    "OUTRIDER_HEALTH_PORT": str(ports.health + offset),
                },
                f"http://{HOST}:{ports.health + offset}/readyz",
            )
            for name, package, offset, own in services
        ),
    ]


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


async def _objection(session: aiohttp.ClientSession, url: str) -> str:
    """Why a process is not ready; "" when it is."""
    if not url:
        return ""
    try:
        async with session.get(url) as response:
            return "" if response.status == 200 else (await response.text()).strip()
    except (aiohttp.ClientError, TimeoutError) as error:
        return f"no answer from {url} ({type(error).__name__})"


def _free_run(count: int) -> int:
    """First of `count` neighbouring free ports, none that an outgoing connection may take before a service does."""
    ids = Ids()
    while True:
        first = int(ids.jitter(*NOT_OUTGOING))
        taken = []
        try:
            for port in range(first, first + count):
                taken.append(socket.socket())
                taken[-1].bind((HOST, port))
            return first
        except OSError:
            continue
        finally:
            for holder in taken:
                holder.close()
