"""The broker on Redis or Valkey (commands of Redis 7.2). See contract.py for what each method means."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, cast

from redis.exceptions import ResponseError

from shared.broker.checks import as_finish, check_close, check_rows, heartbeats
from shared.broker.clock_offset import ClockOffset
from shared.broker.connections import Argument, Connections
from shared.broker.contract import (
    GROUP,
    BrokerFull,
    CommitOutcome,
    CommitRow,
    Entry,
    LeaseLost,
    Outcome,
    UnknownSession,
)
from shared.broker.replies import data, milliseconds, text
from shared.broker.script import script
from shared.broker.stream_reader import read
from shared.protocol import limits, wire
from shared.protocol.keys import Keys
from shared.protocol.messages import Close, Heartbeat, Message, Open, Role, Span, StagedBatch, Submit
from shared.protocol.session import SessionHead, SessionLog, SessionSpec


class RedisBroker:
    """One process's connection to the broker; nothing is connected before the first call."""

    def __init__(self, connections: Connections | str, shard: str = "s0", stream_limit: int = 4096) -> None:
        self._redis = Connections(connections) if isinstance(connections, str) else connections
        self._keys = Keys(shard)
        self._limit = stream_limit
        self._clock = ClockOffset()

    # --- connection ---------------------------------------------------------------------------------
    async def run_id(self) -> str:
        return text(await self._run("identity", [self._keys.birth]))

    async def ping(self) -> float:
        return await self._redis.ping()

    async def close(self) -> None:
        await self._redis.close()

    # --- streams ------------------------------------------------------------------------------------
    async def push(self, stream: str, message: Message) -> None:
        if not await self.push_many(stream, [message]):
            raise BrokerFull(f"{stream} holds {self._limit} entries")

    async def push_many(self, stream: str, messages: Sequence[Message]) -> int:
        packed = [wire.encode(message) for message in messages]
        return int(await self._run("push", [stream], self._limit, *packed)) if packed else 0

    async def send(self, inbox: str, message: Message) -> None:
        await self._run("send", [inbox], wire.encode(message))

    async def open(self, device: str, message: Open) -> bool:
        keys = [
            self._keys.session(message.session),
            self._keys.session_ids(message.session),
            self._keys.inbox(device),
        ]
        return int(await self._run("open", keys, wire.encode(replace(message, spec=b"", committed=())))) != 0

    async def make_groups(self, streams: Sequence[str]) -> None:
        if streams:
            await self._run("groups", streams)

    async def read_pending(self, streams: Sequence[str], consumer: str, count: int) -> list[Entry]:
        found: list[Entry] = []
        for stream in streams:
            try:
                rows = await self._run("pending", [stream], consumer, count)
            except ResponseError as error:
                await self._regroup(error, [stream])
                continue
            found += [Entry(stream, text(id_), data(pairs), deliveries) for id_, deliveries, pairs in rows]
        return sorted(found, key=lambda entry: [int(part) for part in entry.id.split("-")])

    async def read_group(
        self, streams: Sequence[str], consumer: str, count: int, block_s: float
    ) -> list[Entry]:
        command = ("XREADGROUP", "GROUP", GROUP, consumer, "COUNT", count)
        try:
            return await read(self._redis, command, streams, [">"] * len(streams), block_s)
        except ResponseError as error:
            await self._regroup(error, streams)
            return []

    async def read_inbox(self, inbox: str, after: str, count: int, block_s: float) -> list[Entry]:
        return await read(self._redis, ("XREAD", "COUNT", count), [inbox], [after], block_s)

    async def ack(self, stream: str, ids: Sequence[str]) -> None:
        if ids:
            await self._run("ack", [stream], *ids)

    async def dead_letter(self, entry: Entry, reason: str) -> None:
        kept = entry.data[: limits.DEAD_BYTES]
        await self._run("dead", [self._keys.dead, entry.stream], entry.id, reason, len(entry.data), kept)

    async def length(self, stream: str) -> int:
        return int(await self._redis.call("XLEN", stream))

    # --- session log --------------------------------------------------------------------------------
    async def submit(self, spec: SessionSpec, message: Submit) -> bool:
        log: dict[str, Argument] = {
            "spec": wire.encode_spec(spec),
            "prompt_len": len(spec.prompt),
            "max_tokens": spec.max_tokens,
            "gateway": spec.gateway,
            "device_wanted": spec.device,
            "epoch": 0,
            "verifier": "",
            "device": "",
            "finish": "",
        }
        keys = [self._keys.session(spec.session), self._keys.submit, self._keys.live]
        fields = [part for pair in log.items() for part in pair]
        done = await self._run(
            "submit", keys, self._limit, wire.encode(message), spec.session, spec.deadline_ms, *fields
        )
        if done < 0:
            raise BrokerFull(f"{self._keys.submit} holds {self._limit} entries")
        return bool(done)

    async def load(self, session: str) -> SessionLog:
        log = await self._log(session, "whole")
        spec, ids, logprobs = log[10:]
        return SessionLog(
            wire.decode_spec(spec),
            _head(session, log),
            tuple(int(token) for token in ids),
            tuple(wire.decode_logprobs(entry) for entry in logprobs),
        )

    async def head(self, session: str) -> SessionHead:
        return _head(session, await self._log(session, "head"))

    async def live(self) -> set[str]:
        return {text(name) for name in await self._redis.call("SMEMBERS", self._keys.live)}

    async def place(self, session: str, epoch: int, verifier: str, device: str) -> bool:
        return bool(await self._run("place", [self._keys.session(session)], epoch, verifier, device))

    async def end(self, session: str, close: Close, verifier: str, device: str, gateway: str) -> bool:
        check_close(close)
        keys = [*self._session_keys(session), self._keys.live]
        keys += [self._keys.staged(verifier)] if verifier else []
        keys += [self._keys.inbox(device)] if device else []
        keys += [self._keys.reply(gateway)] if gateway else []
        to_verifier = "verifier" if verifier else ""
        return bool(
            await self._run("end", keys, session, close.finish, wire.encode(close), self._limit, to_verifier)
        )

    async def commit(self, verifier: str, entry_id: str, rows: Sequence[CommitRow]) -> list[CommitOutcome]:
        check_rows(rows)
        keys = [self._keys.verdicts, self._keys.staged(verifier), self._keys.live]
        for row in rows:
            keys += self._session_keys(row.verdict.session)
            keys.append(self._keys.inbox(row.device) if row.device else self._keys.live)
            keys.append(self._keys.reply(row.gateway) if row.gateway else self._keys.live)
        told = await self._run("commit", keys, entry_id, *(wire.encode(row.verdict) for row in rows))
        outcomes = zip(told[::2], told[1::2], strict=True)
        return [CommitOutcome(cast(Outcome, text(name)), length) for name, length in outcomes]

    # --- scheduler ----------------------------------------------------------------------------------
    async def acquire_lease(self, holder: str, ttl_s: float) -> int:
        return int(
            await self._run("acquire", [self._keys.lease, self._keys.term], holder, milliseconds(ttl_s))
        )

    async def renew_lease(self, holder: str, term: int, ttl_s: float) -> bool:
        return bool(await self._run("renew", [self._keys.lease], holder, term, milliseconds(ttl_s)))

    async def release_lease(self, holder: str, term: int) -> None:
        await self._run("release", [self._keys.lease], holder, term)

    async def stage(self, verifier: str, batch: StagedBatch, drafts: Sequence[str], holder: str) -> None:
        keys = [self._keys.lease, self._keys.staged(verifier), self._keys.draft]
        done = await self._run("stage", keys, holder, self._limit, wire.encode(batch), *drafts)
        if done < 0:
            raise LeaseLost(f"{holder} is not the active scheduler")
        if not done:
            raise BrokerFull(f"{self._keys.staged(verifier)} holds {self._limit} entries")

    # --- who is there -------------------------------------------------------------------------------
    async def next_generation(self) -> int:
        return int(await self._run("generation", [self._keys.generation]))

    async def beat(self, heartbeat: Heartbeat, ttl_s: float) -> None:
        role, name = heartbeat.role, heartbeat.name
        keys = [
            self._keys.alive(role, name),
            self._keys.names(role),
            *self._keys.own(role, f"{name}:{heartbeat.generation}"),
        ]
        loop = asyncio.get_running_loop()
        sent, packed = loop.time(), wire.encode(heartbeat)
        broker_us = int(
            await self._run("beat", keys, heartbeat.generation, packed, milliseconds(ttl_s), name)
        )
        if broker_us:
            self._clock.observe(sent, loop.time(), broker_us)
        else:
            raise LeaseLost(f"{role} {name} has a newer generation than {heartbeat.generation}")

    async def leave(self, role: Role, name: str, generation: int) -> None:
        await self._run("leave", [self._keys.alive(role, name), self._keys.names(role)], generation, name)

    async def alive(self, role: Role) -> list[Heartbeat]:
        names = [text(name) for name in await self._redis.call("ZRANGE", self._keys.names(role), 0, -1)]
        if not names:
            return []
        return heartbeats(await self._run("alive", [self._keys.alive(role, name) for name in names]))

    async def enlist(self, expiries: Mapping[str, int]) -> list[str]:
        if not expiries:
            return []
        keys = [self._keys.names("draft_worker")]
        keys += [self._keys.alive("draft_worker", name) for name in expiries]
        told: list[Argument] = [part for pair in expiries.items() for part in pair]
        return [text(address) for address in await self._run("enlist", keys, *told)]

    async def put(self, key: str, fields: Mapping[str, str]) -> None:
        await self._run("put", [key], *(part for pair in fields.items() for part in pair))

    async def get(self, key: str) -> dict[str, str]:
        return await self._redis.hash(key)

    async def trace(self, spans: Sequence[Span]) -> None:
        if spans:
            packed = [wire.encode(replace(span, offset_us=self._clock.us)) for span in spans]
            with suppress(BrokerFull):
                await self._run("trace", [self._keys.trace], *packed)

    # --- below --------------------------------------------------------------------------------------
    async def _run(self, name: str, keys: Sequence[str], *arguments: Argument) -> Any:
        return await self._redis.run(script(name), keys, *arguments)

    async def _regroup(self, error: ResponseError, streams: Sequence[str]) -> None:
        """A missing group means that the broker lost its data (or was never asked for the group).

        The group is made anew, from the start of the stream, so nothing that was added since is missed. That
        the rest is lost, the run id tells.
        """
        if not str(error).startswith("NOGROUP"):
            raise error
        await self.make_groups(streams)

    async def _log(self, session: str, extent: str) -> Any:
        log = await self._run("load", self._session_keys(session), extent)
        if log is None:
            raise UnknownSession(session)
        return log

    def _session_keys(self, session: str) -> list[str]:
        keys = self._keys
        return [keys.session(session), keys.session_ids(session), keys.session_logprobs(session)]


def _head(session: str, log: list[Any]) -> SessionHead:
    prompt_len, max_tokens, gateway, device_wanted, epoch, verifier, device, finish, remaining, committed = (
        log[:10]
    )
    return SessionHead(
        session=session,
        prompt_len=int(prompt_len),
        max_tokens=int(max_tokens),
        gateway=text(gateway),
        device_wanted=text(device_wanted),
        deadline_ms=remaining,
        epoch=int(epoch),
        verifier=text(verifier),
        device=text(device),
        committed=committed,
        finish=as_finish(text(finish)),
    )
