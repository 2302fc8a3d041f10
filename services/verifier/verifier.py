"""The verifier's shell: one staged batch = one forward pass = one commit = one acknowledgement.

The reader works one message ahead, so session logs are read while the model runs. Messages are handled one at a time,
so their changes to sessions and cache never overlap.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

import structlog
from prometheus_client import CollectorRegistry

from services.verifier import deployment
from services.verifier.core import Bounds, VerifiedSession, refusal
from services.verifier.metrics import Metrics
from services.verifier.passes import OnePass, Passes, PassesEnded, UnderWay
from services.verifier.reader import Inbound, Reader
from services.verifier.retry import Retry
from services.verifier.sessions import VerifiedSessions
from services.verifier.step import Answer, Step, plan_step, undo_step
from services.verifier.step_times import StepTimes
from shared.broker.contract import Broker, BrokerAway, BrokerFull, CommitRow, Entry
from shared.compute.compute import Compute
from shared.compute.core_drafter import CoreDrafter, LookupDrafter
from shared.compute.target import TargetModel
from shared.protocol.keys import Keys
from shared.protocol.limits import MAX_DELIVERIES
from shared.protocol.messages import Close, Heartbeat, StagedBatch, StagedRow, Tune, Verdict
from shared.runtime.ids import Ids
from shared.runtime.loop import run_forever
from shared.runtime.pause import pause
from shared.runtime.presence import Presence
from shared.runtime.settings import VerifierSettings
from shared.runtime.watch import BrokerWatch

DEPLOYMENT_S: Final = 2.0  # interval of checks that the deployment record exists
POLL_S: Final = 0.5  # longest wait for a message before checking `stop` and for a broker that lost its data

log = structlog.get_logger()


class Verifier:
    """One verifier process. All parts are injected, so that it runs under any clock and broker."""

    def __init__(
        self,
        settings: VerifierSettings,
        broker: Broker,
        target: TargetModel,
        compute: Compute,
        ids: Ids,
        registry: CollectorRegistry,
        vocabulary_blocks: str = "",
        drafter: CoreDrafter | None = None,
        passes: Passes | None = None,
    ) -> None:
        """drafter: for rows that may have tokens of the core's own; None = lookups in the session itself. passes: how
        rows go through the target; None = at once, in this process.
        """
        self.name = settings.name or "verifier"
        self.watch = BrokerWatch(broker)
        self.metrics = Metrics(registry)
        self._drafter = drafter or LookupDrafter()
        self._passes = passes or OnePass(target, compute)
        self.sessions = VerifiedSessions(
            self.name, broker.sessions, target, self._drafter, compute, self.metrics, self._passes.drop
        )
        self._settings = settings
        self._broker = broker
        self._target = target
        self._compute = compute
        self._under_way = UnderWay(self._passes.depth)
        self.planning = asyncio.Lock()  # from a step's plan to its start
        self._ids = ids
        self._vocabulary_blocks = vocabulary_blocks
        self._bounds = Bounds(target.vocab, target.max_context, target.pool_tokens)
        self._keys = Keys(settings.shard)
        self._stream = self._keys.staged(self.name)
        self._presence = Presence(broker.presence, self._heartbeat)
        self._retry: Retry | None = None  # while running
        self._generation = 0
        self._registered_in = -1  # watch.generation at our registration; -1 = not registered
        self._term = 0  # highest lease term seen
        self._pages = (0, 0)
        self._busy_s = 0.0
        self._idle_since = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until stop is set, finish the current message, then deregister. Raises Superseded."""
        retry = self._retry = Retry(self.watch, self._ids, stop)
        reader = Reader(self._stream, self.name, self._broker.streams, self.sessions, retry, self.metrics)
        self._idle_since = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as group:
            background = [group.create_task(self.watch.run(stop))]
            await self._register_when_up(stop)
            background.append(group.create_task(self._presence.run(stop)))
            background.append(group.create_task(self._keep_deployment(stop)))
            background.append(group.create_task(run_forever(reader.turn, self.watch, stop, "read")))
            try:
                await run_forever(partial(self._turn, reader, retry), self.watch, stop, "serve")
                await self._under_way.make_room((), alone=True)
            finally:
                self._under_way.cancel()
            for task in background:
                task.cancel()
        await self._deregister()

    def not_ready_reason(self) -> str | None:
        """Why the verifier is not ready; None when it is."""
        if self._registered_in < 0:
            return "starting"
        return None if self.watch.up else "broker away"

    # --- registration -------------------------------------------------------------------------------
    async def _register_when_up(self, stop: asyncio.Event) -> None:
        """Register as soon as the broker is up."""
        while self._registered_in < 0 and not stop.is_set():
            try:
                await self._register()
            except BrokerAway as error:
                log.debug("not begun", why=str(error))
                await asyncio.sleep(self._ids.jitter(0.05, 0.3))

    async def _register(self) -> None:
        """Take a generation, write the deployment record, create the group. Repeated after the broker lost its data."""
        data = self.watch.generation
        await self.sessions.drop_all()
        self._term = 0
        self._generation = await self._broker.presence.next_generation()
        await self._publish_deployment()
        await self._broker.streams.make_groups([self._stream])
        await self._presence.announce()  # so that a ready verifier is listed as alive
        self._registered_in = data
        log.info("verifier up", name=self.name, generation=self._generation, pool=self._target.pool_tokens)

    async def _keep_deployment(self, stop: asyncio.Event) -> None:
        """Rewrite the deployment record when it is missing: without it gateways refuse and devices do not join."""
        while not stop.is_set():
            await pause(stop, DEPLOYMENT_S)
            try:
                if not await self._broker.records.get(self._keys.deployment):
                    log.warning("the deployment's record was deleted, it is written again")
                    await self._publish_deployment()
            except BrokerAway as error:
                log.debug("deployment not looked up", why=str(error))

    async def _publish_deployment(self) -> None:
        """Write the deployment record. Raises BrokerAway, also when the broker's memory is full: try again later."""
        try:
            record = deployment.record(self._settings, self._target, self._vocabulary_blocks)
            await self._broker.records.put(self._keys.deployment, record)
        except BrokerFull as error:
            raise BrokerAway(str(error)) from error

    async def _deregister(self) -> None:
        """Delete our heartbeat, so that sessions move to another verifier at once."""
        try:
            await self._broker.presence.leave("verifier", self.name, self._generation)
        except BrokerAway as error:
            log.info("the heartbeat lapses by itself", why=str(error))

    def _heartbeat(self) -> Heartbeat:
        used, pages = self._pages
        target = self._target
        return Heartbeat(
            role="verifier",
            name=self.name,
            generation=self._generation,
            vocabulary=target.vocabulary,
            capacity=target.pool_tokens,
            load=used * target.pool_tokens // max(pages, 1),
            stamp_us=round(asyncio.get_running_loop().time() * 1e6),
            busy_us=round(self._busy_s * 1e6),
            passes=self._passes.depth,
            trees=self._passes.grows(),
            detail=deployment.detail(self._settings, self._passes.detail()),
        )

    # --- one turn, one message ----------------------------------------------------------------------
    async def _turn(self, reader: Reader, retry: Retry) -> None:
        """Handle the next message, if one arrives within POLL_S."""
        self._under_way.check()
        if self._registered_in != self.watch.generation:
            await self._under_way.make_room((), alone=True)
            await self._register()
        await self.sessions.sweep()
        inbound = await reader.next(POLL_S)
        if inbound is None:
            self._record_pages(await self._compute.run(self._target.pages))
            return
        rows: Sequence[StagedRow] = ()
        if isinstance(inbound.message, StagedBatch):
            rows = inbound.message.rows
            if inbound.message.grown:
                await self._in_hand(inbound, reader, retry, lambda: None)
                return
        sessions = {row.session for row in rows}
        # What was under way when a process died may have killed it: it runs alone, so that nothing else dies with it.
        await self._under_way.make_room(sessions, alone=inbound.entry.deliveries > 1)
        await self._passes.release(sessions)
        await self._under_way.run(partial(self._in_hand, inbound, reader, retry), sessions)

    async def _in_hand(
        self, inbound: Inbound, reader: Reader, retry: Retry, started: Callable[[], None]
    ) -> None:
        """Handle one message. Raises BrokerAway when it was not acknowledged: it is read again."""
        try:
            await self._handle(inbound, reader, retry, started)
        except BrokerAway:
            reader.reread_pending()
            raise
        finally:
            reader.done(inbound)

    async def _handle(
        self, inbound: Inbound, reader: Reader, retry: Retry, started: Callable[[], None]
    ) -> None:
        """Handle one message; `started` is called once its pass has started. Raises BrokerAway."""
        entry = inbound.entry
        match inbound.message:
            case StagedBatch() as batch if batch.term < self._term:
                log.warning("batch of an older scheduler refused", term=batch.term, current=self._term)
                self.metrics.refused.labels("term").inc()
                await self._ack(entry, retry)
            case StagedBatch(grown=grown) if grown:
                for nodes in grown:
                    if reason := self._passes.graft(nodes):
                        self.metrics.refused.labels(f"nodes {reason}").inc()
                await self._ack(entry, retry)
            case StagedBatch() as batch if entry.deliveries >= MAX_DELIVERIES and len(batch.rows) > 1:
                await self._split(entry, batch, retry)
            case StagedBatch() as batch if entry.deliveries > MAX_DELIVERIES:
                await self._dead_letter(entry, batch, reader, retry)
            case StagedBatch() as batch:
                self._term = batch.term
                await self._step(inbound, batch, retry, started)
            case Close() as close:
                await self.sessions.close(close.session, close.epoch)
                await self._ack(entry, retry)
            case Tune() as tune:
                await self._compute.run(lambda: self._target.set_threads(tune.threads))
                await self._ack(entry, retry)

    async def _split(self, entry: Entry, batch: StagedBatch, retry: Retry) -> None:
        """Split a batch that has crashed the process before: each row becomes a batch with its own delivery count.

        Rows for which the stream has no room are refused, and their sessions staged again. Waiting for room would be
        for ever, since only this process makes any.
        """
        log.error("batch delivered too often, its rows are run alone", entry=entry.id, rows=len(batch.rows))
        alone = [replace(batch, rows=(row,)) for row in batch.rows]
        added = await retry(partial(self._broker.streams.push_many, self._stream, alone))
        if left := batch.rows[added:]:
            refused = [(row, refusal(row, "no_pages", "no room to run the row alone")) for row in left]
            await self._commit(entry.id, refused, retry)
        else:
            await self._ack(entry, retry)

    async def _dead_letter(self, entry: Entry, batch: StagedBatch, reader: Reader, retry: Retry) -> None:
        """Dead-letter a batch whose single row crashes the process, and end its session with an error."""
        refusals = [
            CommitRow(refusal(row, "error", "verification failed repeatedly"), row.device, row.gateway)
            for row in batch.rows
        ]
        await self.sessions.drop([row.session for row in batch.rows])
        await retry(partial(self._broker.sessions.commit, self.name, "", refusals))
        await reader.refuse(entry, "deadly", f"delivered {entry.deliveries} times")

    async def _ack(self, entry: Entry, retry: Retry) -> None:
        await retry(partial(self._broker.streams.ack, self._stream, [entry.id]))

    # --- one step -----------------------------------------------------------------------------------
    async def _step(
        self, inbound: Inbound, batch: StagedBatch, retry: Retry, started: Callable[[], None]
    ) -> None:
        """Plan the batch, run its valid rows, and commit all answers."""
        loop = asyncio.get_running_loop()
        sessions = await self.sessions.of_rows(batch.rows, inbound.logs, retry)
        begun = loop.time()
        async with self.planning:
            step = await self._plan(batch.rows, sessions)
            planned = loop.time()
            answering = await self._start(step)
        started()
        answers = [*step.answers, *await self._answers(step, answering)]
        times = StepTimes(inbound.read_at, begun, planned, ended=loop.time())
        self._busy_s += times.ended - begun
        stamped = [
            (row, self._kept(row, times.stamp(verdict, batch.batch, step.fused))) for row, verdict in answers
        ]
        committed = await self._commit(inbound.entry.id, stamped, retry)
        for row, verdict in stamped:
            session = self.sessions.known(row.session)
            if verdict.keeps and session is not None and row.session in committed:
                self._passes.open(row, session)
        self.metrics.step(times)
        idle_since, self._idle_since = self._idle_since, times.ended
        if self._settings.trace:
            await self._broker.streams.trace(times.spans(self.name, batch, idle_since))

    async def _plan(self, rows: Sequence[StagedRow], sessions: Mapping[str, VerifiedSession | None]) -> Step:
        """Plan a step, and record the KV pages in use before its pass."""
        target, feed_tokens = self._target, self._settings.feed_tokens
        step, pages = await self._compute.run(
            lambda: (
                plan_step(target, self._drafter, rows, sessions, self._bounds, feed_tokens),
                target.pages(),
            )
        )
        self._record_pages(pages)
        if any(verdict.status == "no_pages" for _, verdict in step.answers):
            self.sessions.press()
        return step

    async def _start(self, step: Step) -> Awaitable[Sequence[Answer]] | None:
        """Start the step's pass; None when there is nothing to run, or it cannot start."""
        if not step.passing:
            return None
        try:
            return await self._passes.start(step)
        except PassesEnded:
            raise
        except Exception:  # whatever torch raises: one row's fault must not end the others
            self._log_failure(step)
            return None

    async def _answers(self, step: Step, answering: Awaitable[Sequence[Answer]] | None) -> Sequence[Answer]:
        """The answers of a pass. When it raises, each row runs alone, so that only the faulty row gets an error."""
        if not step.passing:
            return []
        if answering is not None:
            try:
                answers = await answering
            except PassesEnded:
                raise
            except Exception:  # as above
                self._log_failure(step)
            else:
                self.metrics.fed.inc(sum(len(fed.tokens) for fed in step.inputs))
                return answers
        if len(step.passing) == 1:
            row = step.passing[0].row
            await self.sessions.drop([row.session])
            return [(row, refusal(row, "error", "verification failed"))]
        await self._compute.run(lambda: undo_step(self._target, step))
        alone: list[Answer] = []
        for one in step.passing:
            async with self.planning:
                single = await self._plan([one.row], {one.row.session: one.session})
                answering = await self._start(single)
            alone += [*single.answers, *await self._answers(single, answering)]
        return alone

    def _log_failure(self, step: Step) -> None:
        log.exception("forward pass failed", sessions=[one.row.session for one in step.passing])
        self.metrics.forward_errors.inc()

    def _record_pages(self, pages: tuple[int, int]) -> None:
        """Record KV pages (used, total) for metrics and the heartbeat: before a pass and when idle."""
        self._pages = pages
        self.metrics.set_pages(*pages)

    def _kept(self, row: StagedRow, verdict: Verdict) -> Verdict:
        """The verdict on a row, saying so when its session is kept after it."""
        kept = verdict.status == "ok" and verdict.tokens and not verdict.finish and self._passes.takes(row)
        tree = verdict.length if row.tree == "device" else 0
        return replace(verdict, keeps=True, next_k=0, tree=tree) if kept else verdict

    async def commit_step(self, row: StagedRow, verdict: Verdict) -> bool:
        """Commit one step of a session that is kept. Returns whether it is in the log now."""
        if self._retry is None:
            return False
        try:
            return verdict.session in await self._commit("", [(row, verdict)], self._retry)
        except BrokerAway as error:
            log.info("step not committed", session=verdict.session, why=str(error))
            return False

    async def _commit(self, entry: str, answers: Sequence[Answer], retry: Retry) -> set[str]:
        """Commit all verdicts atomically, retrying until the broker has them; then update our sessions.

        entry: acknowledged with them; "" = none. Returns the sessions whose tokens were appended to their logs.
        """
        begun = asyncio.get_running_loop().time()
        rows = [CommitRow(verdict, row.device, row.gateway) for row, verdict in answers]
        outcomes = await retry(partial(self._broker.sessions.commit, self.name, entry, rows))
        self.metrics.committed(
            [row.verdict for row in rows], outcomes, asyncio.get_running_loop().time() - begun
        )
        pairs = [(row.verdict, outcome) for row, outcome in zip(rows, outcomes, strict=True)]
        await self.sessions.drop([v.session for v, outcome in pairs if not self.sessions.follow(v, outcome)])
        return {v.session for v, outcome in pairs if outcome.outcome == "committed" and v.tokens}
