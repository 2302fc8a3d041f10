"""`outrider join`: this machine drafts for a core elsewhere. Needs the draft-worker extra alone."""

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

FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 10.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class JoinOptions:
    """What the command line says. model None: the one that the core names."""

    url: str
    name: str
    token_file: Path
    model: Path | None
    threads: int
    sessions: int
    health_port: int


def run_join(joining: JoinOptions) -> Callable[[asyncio.Event], Awaitable[None]]:
    """What serves until its event is set. It raises SettingsError, BadFile, Refused, BrokerDenied, Superseded."""

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
                f"`outrider devices add {joining.name}` beside the core prints another line)"
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
    """What the core says of itself, as soon as it says anything; {} when stopped before."""
    broker, pause_s, told = connect_device(settings, settings.name), FIRST_PAUSE_S, ""
    try:
        while not stop.is_set():
            try:
                if deployment := await broker.records.get(Keys(settings.shard).deployment):
                    return deployment
                waiting = "waiting for the core: no verifier has registered its deployment yet"
            except BrokerAway as error:
                waiting = f"waiting for the broker: {error}"
            if waiting != told:
                told = waiting
                log.info(told)
            try:
                await asyncio.wait_for(stop.wait(), pause_s)
            except TimeoutError:
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
    finally:
        await broker.close()
    return {}


def _draft_of(deployment: Mapping[str, str]) -> Path:
    """The draft model that the core names, fetched if it is not here. It takes a while; nothing else goes on yet."""
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
