"""`outrider join`: this machine drafts for a core on another one. Needs only the draft-worker extra."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from cli.command.errors import ModelError
from cli.command.report import Report
from cli.models import fetch, manifest, prepare
from shared.broker.access import device_user
from shared.broker.contract import BrokerAway, BrokerDenied
from shared.protocol.keys import Keys
from shared.runtime import logs
from shared.runtime.connect import connect_device
from shared.runtime.service import BadFile, Refused
from shared.runtime.settings import DraftWorkerSettings, SettingsError, load

MIN_PAUSE_S: Final = 0.5
MAX_PAUSE_S: Final = 10.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class JoinOptions:
    """Options of `outrider join`. model: GGUF file of the draft; None = the draft that the core names."""

    url: str
    name: str
    token_file: Path
    model: Path | None
    threads: int
    sessions: int
    health_port: int


def run_join(joining: JoinOptions) -> Callable[[asyncio.Event], Awaitable[None]]:
    """A function that drafts until its event is set. It raises SettingsError, BadFile, Refused, Superseded."""

    async def run(stop: asyncio.Event) -> None:
        from services.draft_worker.__main__ import prove_llama, serve  # another service

        settings = _settings(joining)
        logs.configure(settings.log_level, settings.log_format, role="device", name=joining.name)
        await prove_llama(settings)
        if settings.drafter == "llama" and not settings.draft_model:
            deployment = await _deployment(settings, stop)
            if stop.is_set():
                return
            settings = settings.model_copy(update={"draft_model": str(_draft_of(deployment))})
        await serve(settings, stop)

    async def explained(stop: asyncio.Event) -> None:
        try:
            await run(stop)
        except* BrokerDenied as denied:
            raise Refused(
                f"{denied.exceptions[0]} (a wrong token, or {joining.name!r} was removed; "
                f"`outrider devices add {joining.name}` on the core's machine prints a new command)"
            ) from None

    return explained


def _settings(joining: JoinOptions) -> DraftWorkerSettings:
    try:
        user = device_user(joining.name)
    except ValueError as error:
        raise SettingsError(f"--name: {error}") from None
    if not joining.token_file.is_file():
        raise SettingsError(f"--token-file {joining.token_file}: no such file")
    if joining.model is not None and not joining.model.is_file():
        raise SettingsError(f"--model {joining.model}: no such file")
    return load(
        DraftWorkerSettings,
        broker_url=joining.url,
        broker_user=user,
        broker_password_file=str(joining.token_file),
        name=joining.name,
        joined=True,
        draft_model=str(joining.model or ""),
        draft_threads=joining.threads,
        draft_sessions=joining.sessions,
        health_port=joining.health_port,
    )


async def _deployment(settings: DraftWorkerSettings, stop: asyncio.Event) -> Mapping[str, str]:
    """The core's deployment record, as soon as there is one; {} when stopped before."""
    broker, pause_s, logged = connect_device(settings, settings.name), MIN_PAUSE_S, ""
    try:
        while not stop.is_set():
            try:
                if deployment := await broker.records.get(Keys(settings.shard).deployment):
                    return deployment
                waiting = "waiting for the core: no verifier has registered its deployment yet"
            except BrokerAway as error:
                waiting = f"waiting for the broker: {error}"
            if waiting != logged:
                logged = waiting
                log.info(waiting)
            try:
                await asyncio.wait_for(stop.wait(), pause_s)
            except TimeoutError:
                pause_s = min(2 * pause_s, MAX_PAUSE_S)
    finally:
        await broker.close()
    return {}


def _draft_of(deployment: Mapping[str, str]) -> Path:
    """File of the draft model that the core names, downloaded if missing. Blocks: no other task runs yet.

    Raises Refused, BadFile.
    """
    from services.draft_worker.handshake import another_version  # another service

    if other := another_version(deployment):
        raise Refused(other)
    name = deployment.get("draft", "")
    if not name:
        raise BadFile("the core names no draft model: give one with --model FILE.gguf")
    try:
        return prepare.prepare_draft(manifest.get(name), list(fetch.GETTERS), Report())
    except (ModelError, OSError) as error:
        raise BadFile(f"draft model {name}: {error}; or give one with --model FILE.gguf") from None
