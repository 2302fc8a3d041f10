"""Session logs in memory. contract.py describes every method."""

from collections.abc import Sequence

from shared.broker.checks import check_close, check_rows
from shared.broker.contract import CommitOutcome, CommitRow
from shared.broker.memory_link import MemoryConnection
from shared.broker.memory_scripts import MemoryScripts
from shared.protocol import wire
from shared.protocol.keys import Keys
from shared.protocol.messages import Close, Open, Submit
from shared.protocol.session import SessionHead, SessionLog, SessionSpec


class MemorySessionLogs:
    """The logs of all sessions."""

    def __init__(self, connection: MemoryConnection, scripts: MemoryScripts, keys: Keys) -> None:
        self._connection, self._scripts, self._keys = connection, scripts, keys

    async def submit(self, spec: SessionSpec, message: Submit) -> bool:
        packed, data = wire.encode_spec(spec), self._connection.server.encode(message)
        return await self._connection.do(
            "submit", lambda: self._scripts.submit(spec, packed, data), len(packed) + len(data)
        )

    async def load(self, session: str) -> SessionLog:
        return await self._connection.do(
            "load", lambda: self._scripts.load(session), received=lambda log: 4 * log.head.length
        )

    async def head(self, session: str) -> SessionHead:
        return await self._connection.do("head", lambda: self._scripts.head(session))

    async def live(self) -> set[str]:
        return await self._connection.do("live", lambda: set(self._scripts.live()))

    async def place(self, session: str, epoch: int, verifier: str, device: str) -> bool:
        return await self._connection.do(
            "place", lambda: self._scripts.place(session, epoch, verifier, device)
        )

    async def end(self, session: str, close: Close, verifier: str, device: str, gateway: str) -> bool:
        check_close(close)
        data = self._connection.server.encode(close)
        inboxes = [self._keys.inbox(device)] if device else []
        inboxes += [self._keys.reply(gateway)] if gateway else []
        return await self._connection.do(
            "end", lambda: self._scripts.end(session, close, data, verifier, inboxes), len(data)
        )

    async def commit(self, verifier: str, entry_id: str, rows: Sequence[CommitRow]) -> list[CommitOutcome]:
        check_rows(rows)
        packed = [(row, self._connection.server.encode(row.verdict)) for row in rows]
        return await self._connection.do(
            "commit",
            lambda: self._scripts.commit(verifier, entry_id, packed),
            sum(len(data) for _, data in packed),
        )

    async def open(self, device: str, message: Open) -> bool:
        return await self._connection.do("open", lambda: self._scripts.open(device, message))
