"""Session logs on Redis or Valkey. contract.py describes every method."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from shared.broker.checks import as_finish, check_close, check_rows
from shared.broker.connections import Argument, Connections
from shared.broker.contract import BrokerFull, CommitOutcome, CommitRow, Outcome, UnknownSession
from shared.broker.replies import text
from shared.protocol import wire
from shared.protocol.keys import Keys
from shared.protocol.messages import Close, Open, Submit
from shared.protocol.session import SessionHead, SessionLog, SessionSpec


class RedisSessionLogs:
    """The logs of all sessions."""

    def __init__(self, connections: Connections, keys: Keys, limit: int) -> None:
        """limit: entries of a work stream."""
        self._redis, self._keys, self._limit = connections, keys, limit

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
        done = await self._redis.run(
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
        return bool(await self._redis.run("place", [self._keys.session(session)], epoch, verifier, device))

    async def end(self, session: str, close: Close, verifier: str, device: str, gateway: str) -> bool:
        check_close(close)
        keys = [*self._session_keys(session), self._keys.live]
        keys += [self._keys.staged(verifier)] if verifier else []
        keys += [self._keys.inbox(device)] if device else []
        keys += [self._keys.reply(gateway)] if gateway else []
        to_verifier = "verifier" if verifier else ""
        return bool(
            await self._redis.run(
                "end", keys, session, close.finish, wire.encode(close), self._limit, to_verifier
            )
        )

    async def commit(self, verifier: str, entry_id: str, rows: Sequence[CommitRow]) -> list[CommitOutcome]:
        check_rows(rows)
        keys = [self._keys.verdicts, self._keys.staged(verifier), self._keys.live]
        for row in rows:
            keys += self._session_keys(row.verdict.session)
            keys.append(self._keys.inbox(row.device) if row.device else self._keys.live)
            keys.append(self._keys.reply(row.gateway) if row.gateway else self._keys.live)
        answer = await self._redis.run("commit", keys, entry_id, *(wire.encode(row.verdict) for row in rows))
        outcomes = zip(answer[::2], answer[1::2], strict=True)
        return [CommitOutcome(cast(Outcome, text(name)), length) for name, length in outcomes]

    async def open(self, device: str, message: Open) -> bool:
        keys = [
            self._keys.session(message.session),
            self._keys.session_ids(message.session),
            self._keys.inbox(device),
        ]
        return (
            int(await self._redis.run("open", keys, wire.encode(replace(message, spec=b"", committed=()))))
            != 0
        )

    async def _log(self, session: str, extent: str) -> Any:
        log = await self._redis.run("load", self._session_keys(session), extent)
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
