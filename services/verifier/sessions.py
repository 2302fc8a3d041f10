"""The sessions that a verifier knows, each as of its last commit, and their KV caches."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Final

from services.verifier.core import Bounds, VerifiedSession, needs_log, session_from_log
from services.verifier.metrics import Metrics
from services.verifier.retry import Retry
from services.verifier.step import keep_common_prefix
from shared.broker.contract import CommitOutcome, SessionLogs, UnknownSession
from shared.compute.compute import Compute
from shared.compute.core_drafter import CoreDrafter
from shared.compute.target import TargetModel
from shared.protocol.messages import StagedRow, Verdict
from shared.protocol.session import SessionLog

IDLE_S: Final = 60.0  # a session without a row for this long is looked up in its log
PRESSED_IDLE_S: Final = 5.0  # the same while sessions wait for KV pages, which an ended one may hold
SWEPT_AT_ONCE: Final = 16

Logs = Mapping[str, SessionLog]


class VerifiedSessions:
    """Applies all changes of sessions, to the sessions and to the target's cache alike."""

    def __init__(
        self,
        verifier: str,
        session_logs: SessionLogs,
        target: TargetModel,
        drafter: CoreDrafter,
        compute: Compute,
        metrics: Metrics,
        dropped: Callable[[str], None] = lambda _: None,
    ) -> None:
        """dropped: told of each session that is dropped, before its cache is."""
        self._dropped = dropped
        self._verifier = verifier
        self._session_logs = session_logs
        self._target = target
        self._drafter = drafter
        self._bounds = Bounds(target.vocab, target.max_context, target.pool_tokens)
        self._compute = compute
        self._metrics = metrics
        self._known: dict[str, VerifiedSession] = {}
        self._last_row: dict[str, float] = {}  # when, on the loop's clock
        self._joined = 0
        self._swept = 0.0
        self._pressed = False

    def __len__(self) -> int:
        return len(self._known)

    async def prefetch(self, rows: Iterable[StagedRow], retry: Retry) -> Logs:
        """Logs of the rows' sessions that are not known yet."""
        return await self._load(sorted({row.session for row in rows} - self._known.keys()), retry)

    async def of_rows(
        self, rows: Iterable[StagedRow], logs: Logs, retry: Retry
    ) -> dict[str, VerifiedSession | None]:
        """The rows' sessions, each as new as the first row of it; None for a session without a log."""
        sessions: dict[str, VerifiedSession | None] = {}
        for row in rows:
            if row.session not in sessions:
                sessions[row.session] = await self._of_row(row, logs, retry)
        return sessions

    async def _of_row(self, row: StagedRow, logs: Logs, retry: Retry) -> VerifiedSession | None:
        """The row's session, reloaded from its log if the row is newer. None when there is no log."""
        self._last_row[row.session] = asyncio.get_running_loop().time()
        session = self._known.get(row.session)
        if session is None and row.session in logs:
            session = await self._adopt(logs[row.session])
        if needs_log(row, session):
            fresh = await self._load([row.session], retry)
            if row.session not in fresh:
                await self.drop([row.session])
                return None
            session = await self._adopt(fresh[row.session])
        return session

    def follow(self, verdict: Verdict, outcome: CommitOutcome) -> bool:
        """Update a session after a commit. Returns False when it has to be dropped."""
        session = self._known.get(verdict.session)
        if verdict.status != "ok" or session is None:
            return True
        if outcome.outcome not in ("committed", "answered"):
            return False
        session.ids.extend(verdict.tokens)
        # "answered" to a row that we ran: the log moved without us, or our own commit came through twice.
        session.trusted = outcome.outcome == "committed" or not verdict.tokens
        return not verdict.finish

    def known(self, session: str) -> VerifiedSession | None:
        """A session as of its last commit; None when it is not known."""
        return self._known.get(session)

    async def close(self, session: str, epoch: int) -> None:
        """Handle a Close: drop the session, unless it was placed here again with a newer epoch."""
        known = self._known.get(session)
        if known is None or known.epoch <= epoch:
            await self.drop([session])

    async def drop(self, sessions: Sequence[str]) -> None:
        """Drop sessions and their caches."""
        if not sessions:
            return
        for session in sessions:
            self._dropped(session)
            self._known.pop(session, None)
            self._last_row.pop(session, None)

        def forget() -> None:
            for session in sessions:
                self._target.forget(session)
                self._drafter.forget(session)

        await self._compute.run(forget)
        self._metrics.sessions.set(len(self._known))

    async def drop_all(self) -> None:
        """Drop all sessions, after the broker has lost its data."""
        await self.drop(list(self._known))

    def press(self) -> None:
        """Look up idle sessions sooner: a row found no pages, and a Close may have been lost."""
        self._pressed = True

    async def sweep(self) -> None:
        """Look up long-idle sessions in their logs, so that a lost Close does not hold their pages forever."""
        now = asyncio.get_running_loop().time()
        idle_s = PRESSED_IDLE_S if self._pressed else IDLE_S
        if now - self._swept < idle_s / 2:
            return
        self._swept, self._pressed = now, False
        idle = [session for session, at in self._last_row.items() if now - at > idle_s]
        for session in idle[:SWEPT_AT_ONCE]:
            try:
                head = await self._session_logs.head(session)
            except UnknownSession:
                await self.drop([session])
                continue
            self._last_row[session] = now
            if head.finish or head.verifier != self._verifier:
                await self.drop([session])

    async def _adopt(self, found: SessionLog) -> VerifiedSession:
        """Adopt a session from its log and keep the valid part of its cache. A finished one is dropped."""
        name = found.spec.session
        known = self._known.get(name)
        if known is None:
            self._joined += 1
            session = session_from_log(found, self._joined, self._bounds)
        else:
            session = session_from_log(found, known.joined, self._bounds)
            await self._compute.run(partial(keep_common_prefix, self._target, known, session))
        if session.finish:
            await self.drop([name])
        else:
            self._known[name] = session
            self._metrics.sessions.set(len(self._known))
        return session

    async def _load(self, sessions: Sequence[str], retry: Retry) -> dict[str, SessionLog]:
        """Load session logs; sessions without a log are left out."""
        begun = asyncio.get_running_loop().time()
        logs = {}
        for session in sessions:
            try:
                logs[session] = await retry(partial(self._session_logs.load, session))
            except UnknownSession:
                continue
        if sessions:
            self._metrics.phase.labels("load").observe(asyncio.get_running_loop().time() - begun)
        return logs
