"""Turns a policy's selection into a staged batch."""

from collections.abc import Sequence
from typing import Final

from services.scheduler.effects import Stage, Trace
from services.scheduler.prefill import chunk_budget, share_budget
from services.scheduler.session import HeldDraft, ScheduledSession
from services.scheduler.state import State
from services.scheduler.verifiers import InFlightBatch, VerifierState
from shared.planning.cost import Row
from shared.planning.windows.window import Decision
from shared.protocol import limits
from shared.protocol.messages import Draft, Span, StagedBatch, StagedRow

WAITING: Final = 1  # batches at a verifier beside those in their passes, so that no hop leaves it idle
FULL_BACKOFF_S: Final = 0.05


def close_batches(state: State, verifier: VerifierState, now: float) -> None:
    """Stage the batches that the policy selects, until it selects none or enough are staged ahead."""
    state.closings.drop(verifier.name)
    if verifier.refused_until > now:
        state.closings.set(verifier.name, verifier.refused_until)
    while (
        verifier.live
        and len(verifier.in_flight) < state.passes_of(verifier.name) + WAITING
        and now >= verifier.refused_until
    ):
        seen = verifier.view(now, state.config.max_rows)
        selection = state.policy.select(verifier.cohort, seen, verifier.plan, now)
        chosen = [state.sessions[session] for session in selection.rows]
        decoding = [session for session in chosen if session.phase == "ready"]
        chunks = [
            (session, min(session.missing, state.config.prefill_tokens, session.chunk))
            for session in chosen
            if session.phase == "prefill"
        ]
        if not selection.alone and (decoding or not verifier.in_flight):
            chunks = plan_chunks(state, verifier, decoding)
        if not decoding and not chunks:
            if selection.wait_until is not None:
                state.closings.set(verifier.name, selection.wait_until)
            return
        if decoding:
            verifier.cohort.closed(selection.lane, [session.id for session in decoding], now)
        stage(state, verifier, decoding, chunks, now)


def plan_chunks(
    state: State, verifier: VerifierState, decoding: Sequence[ScheduledSession]
) -> list[tuple[ScheduledSession, int]]:
    """Prefill chunks (session, tokens) to ride with these decoding rows, in order of arrival."""
    cohort = verifier.cohort
    room = state.config.max_rows - len(decoding)
    if not cohort.prefill_count() or room <= 0:
        return []
    waiting = [state.sessions[view.session] for view in cohort.prefills()[:room]]
    law = verifier.cost.law()
    rows = [decode_row(session) for session in decoding]
    stall_ms = float("inf")
    if any(cohort.ready_count(lane) or cohort.busy(lane) for lane in range(cohort.lanes)):
        stall_ms = law.cost_ms(rows) if law and rows else verifier.decode_ms.value
    budget = chunk_budget(state.config.prefill_tokens, rows, law, stall_ms)
    dealt = share_budget([min(session.missing, session.chunk) for session in waiting], budget)
    return [(session, tokens) for session, tokens in zip(waiting, dealt, strict=True) if tokens]


def decode_row(session: ScheduledSession) -> Row:
    """A decoding row for the cost law: (new tokens, cached tokens)."""
    return session.missing + session.drafted, session.cached


def stage(
    state: State,
    verifier: VerifierState,
    decoding: Sequence[ScheduledSession],
    chunks: Sequence[tuple[ScheduledSession, int]],
    now: float,
) -> None:
    """Stage one batch with each session's next draft length; its sessions then wait for their verdicts."""
    state.batch += 1
    state.metrics.batches.add(1, verifier.name)
    state.metrics.rows.observe(len(decoding) + len(chunks))
    shapes = [decode_row(session) for session in decoding]
    if shapes:
        verifier.observe_batch(shapes)
    shapes += [(tokens, session.cached) for session, tokens in chunks]
    law = verifier.cost.law() if chunks else verifier.costs.decoding.law()
    expected_ms = law.cost_ms(shapes) if law else 0.0
    if decoding and not chunks and law:
        verifier.decode_ms.observe(expected_ms)
    sessions = {session.id for session in decoding} | {session.id for session, _ in chunks}
    verifier.in_flight.add(
        state.batch, InFlightBatch(tuple(shapes), sessions, expected_ms / 1000, now, not chunks)
    )

    spans = tuple(wait_span(state, session, now) for session in decoding) if state.config.trace else ()
    drafts = tuple(session.held.entry for session in decoding if session.held)
    rows = [take_row(state, session, session.length, now) for session in decoding]
    rows += [
        take_row(state, session, min(session.cached + tokens, session.length), now)
        for session, tokens in chunks
    ]
    state.do(Stage(verifier.name, StagedBatch(state.config.term, state.batch, tuple(rows)), drafts))
    if spans:
        state.do(Trace(spans))


def pass_on(state: State, verifier: str) -> None:
    """Stage the nodes that devices have grown for the sessions of a verifier."""
    waiting = state.grown.pop(verifier, [])
    for begin in range(0, len(waiting), limits.MAX_ROWS):
        some = waiting[begin : begin + limits.MAX_ROWS]
        state.batch += 1
        batch = StagedBatch(state.config.term, state.batch, (), tuple(grown for _, grown in some))
        state.do(Stage(verifier, batch, tuple(entry for entry, _ in some)))
        state.holding.difference_update(entry for entry, _ in some)


def take_row(state: State, session: ScheduledSession, feed_to: int, now: float) -> StagedRow:
    """Build a session's row with its held draft, and mark it as verifying. feed_to < length: a prefill chunk."""
    held, last = session.held, feed_to == session.length
    decodes = session.phase == "ready"
    if decodes:
        state.metrics.lengths.observe(session.drafted)
        state.metrics.wait.observe(now - session.since)
    else:
        state.metrics.prefill.inc(feed_to - session.cached)
    draft = state.next_draft(session, now) if last else Decision.draft(0)
    row = StagedRow(
        session=session.id,
        epoch=session.epoch,
        round=session.round,
        base_len=session.length,
        feed_to=feed_to,
        next_k=draft.k if draft.by_device else 0,
        stop_below=draft.stop_below,
        free=draft.k if draft.by_core and held is None else 0,
        tree=draft.grower if held is None or draft.by_device else "",
        siblings=draft.siblings,
        device=_listener(session),
        gateway=session.gateway,
        tokens=held.draft.tokens if held else (),
        parents=held.draft.parents if held else (),
    )
    session.parents = held.draft.parents if held else ()
    session.survival = held.draft.survival if held else b""
    if held is not None:  # staging acknowledges its entry
        state.holding.discard(held.entry)
        session.held = None
    session.batch, session.row_device = state.batch, row.device
    wait_s = state.verdict_wait_s(session)
    state.enter(session, "verifying" if decodes else "prefilling", now, now + wait_s)
    return row


def _listener(session: ScheduledSession) -> str:
    """The device that gets the verdict: none where the session is not open yet."""
    return "" if session.opening else session.device


def on_refused(state: State, effect: Stage, now: float) -> None:
    """The verifier's stream was full: restore the batch's sessions and stage no rows there for a moment."""
    state.metrics.full.inc()
    if effect.batch.grown:  # these nodes are lost; others follow with the next tree
        return
    verifier = state.verifiers[effect.verifier]
    verifier.refused_until = now + FULL_BACKOFF_S
    state.closings.set(verifier.name, verifier.refused_until)
    entries = iter(effect.drafts)
    for row in effect.batch.rows:
        entry = next(entries) if row.tokens else ""
        session = state.sessions.get(row.session)
        if session is None or session.batch != effect.batch.batch:
            continue
        if entry:
            state.hold_draft(session, HeldDraft(entry, _draft_of(row, session.survival)))
        state.enter(session, "ready" if session.phase == "verifying" else "prefill", now)


def _draft_of(row: StagedRow, survival: bytes) -> Draft:
    """The draft in a row."""
    return Draft(
        row.session, row.epoch, row.round, row.base_len, row.device, row.tokens, survival, row.parents
    )


def wait_span(state: State, session: ScheduledSession, now: float) -> Span:
    """A timeline span: how long a session waited for its batch."""
    return Span(
        role="scheduler",
        name=state.config.name,
        session=session.id,
        epoch=session.epoch,
        round=session.round,
        kind="wait",
        start_us=int(session.since * 1e6),
        end_us=int(now * 1e6),
        step=state.batch,
        offset_us=0,
    )
