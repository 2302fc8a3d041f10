"""Message handlers of a speculative round: draft, resync, verdict, and a timer for each that is overdue."""

from typing import Final

from services.scheduler import placement
from services.scheduler.effects import ReadHead, SendToDevice
from services.scheduler.fleet import name_of
from services.scheduler.session import HeldDraft, ScheduledSession
from services.scheduler.state import DEVICE_RETRY_S, FIRST_PENALTY_S, MAX_MISSES, MAX_PENALTY_S, State
from shared.planning.estimates import DeviceEstimate
from shared.planning.windows.window import RoundOutcome
from shared.protocol.messages import Close, Draft, Grown, Resync, Verdict
from shared.protocol.sizes import verdict_bytes
from shared.protocol.wire import encode
from shared.speculative.rule import spine
from shared.speculative.survival import error_in as survival_error

RETRY_S: Final = 0.02  # a row is retried after this when the verifier had no free pages
MIN_CHUNK: Final = 16


def on_draft(state: State, entry: str, draft: Draft, now: float) -> None:
    """Hold a draft for its session's next row, or drop it and count the reason."""
    session = state.sessions.get(draft.session)
    if session is None:
        state.metrics.dropped.labels("draft", "unknown").inc()
        return
    if draft.first_node >= 0:
        _on_nodes(state, session, entry, draft, now)
        return
    if reason := _drop_reason(session, draft):
        state.metrics.dropped.labels("draft", reason).inc()
        if reason == "late":
            _take_late(state, session, draft, now)
        return
    if hostile := _hostility(session, draft):
        state.metrics.dropped.labels("draft", hostile).inc()
        put_on_probation(session, now)
        state.enter(session, "ready", now)
        return
    session.penalty_s = FIRST_PENALTY_S
    _observe_draft(state, session, draft, now)
    session.drafts += 1
    state.metrics.spared.add(max(0, session.allowed_k - len(draft.tokens)))
    session.caught_up = True
    session.adopted = False
    if session.verifier in state.verifiers:
        state.verifiers[session.verifier].in_flight.count_draft()
    if draft.tokens:
        state.hold_draft(session, HeldDraft(entry, draft))
    state.enter(session, "ready", now)


def _on_nodes(state: State, session: ScheduledSession, entry: str, draft: Draft, now: float) -> None:
    """Pass nodes of a device's tree on to the verifier that keeps the session."""
    reason = _stranger(session, draft)
    if not reason and (session.phase != "kept" or draft.base_len != session.tree):
        reason = "late"
    if reason:
        state.metrics.dropped.labels("draft", reason).inc()
        return
    if not draft.tokens or not len(draft.tokens) == len(draft.parents) == len(draft.survival):
        state.metrics.dropped.labels("draft", "malformed").inc()
        put_on_probation(session, now)
        state.enter(session, "ready", now)
        return
    session.penalty_s = FIRST_PENALTY_S
    state.holding.add(entry)
    grown = Grown(
        draft.session,
        draft.epoch,
        draft.base_len,
        draft.first_node,
        draft.tokens,
        draft.parents,
        draft.survival,
    )
    state.grown.setdefault(session.verifier, []).append((entry, grown))


def on_resync(state: State, resync: Resync, now: float) -> None:
    """Handle a device that has caught up, has a gap, or does not take the session."""
    session = state.sessions.get(resync.session)
    if session is None or session.device != resync.device:
        state.metrics.dropped.labels("resync", "unknown" if session is None else "device").inc()
        if resync.reason in ("ready", "lost", "gap", "silent") and state.fleet.has_device(resync.device):
            state.do(SendToDevice(resync.device, Close(resync.session, resync.epoch, "")))
        return
    match resync.reason:
        case "ready":
            session.caught_up = True
            state.update_view(session, now)
        case "lost" | "gap":
            placement.reopen(state, session, now)
        case "no_capacity":
            state.metrics.moves.labels("device").inc()
            session.offer_after = now + DEVICE_RETRY_S
            placement.replace_device(state, session, now, refused=resync.device)
        case "gone":
            state.draining.add(resync.device)
            state.metrics.moves.labels("device").inc()
            placement.replace_device(state, session, now)


def on_verdict(state: State, verdict: Verdict, now: float) -> None:
    """Handle the verifier's answer to one row."""
    _complete_batch(state, verdict, now)
    session = state.sessions.get(verdict.session)
    if session is None or verdict.epoch != session.epoch:
        state.metrics.dropped.labels("verdict", "unknown" if session is None else "epoch").inc()
        return
    if verdict.status == "ok":
        _on_committed(state, session, verdict, now)
        return
    if session.phase not in ("verifying", "prefilling") or verdict.base_len != session.length:
        state.metrics.dropped.labels("verdict", "late").inc()
        return
    match verdict.status:
        case "prefilled":
            session.misses = 0
            session.cached = verdict.cached_len
            state.enter(session, "prefill", now)
        case "need_prefill":
            if (
                session.phase == "prefilling" and verdict.cached_len <= session.cached
            ):  # the chunk was too large
                tried = min(session.chunk, session.missing, state.config.prefill_tokens)
                session.chunk = max(MIN_CHUNK, tried // 2)
            session.cached = verdict.cached_len
            state.enter(session, "prefill", now)
        case "no_pages":
            session.prefilling_next = session.phase == "prefilling"
            state.enter(session, "blocked", now, now + RETRY_S)
        case "stale":
            state.set_timer(session, now + RETRY_S * 2 ** min(session.misses, MAX_MISSES))
        case "error":
            placement.end(state, session, "error", verdict.message or "the verifier refused the session")


def on_overdue(state: State, session: ScheduledSession, now: float) -> None:
    """Handle a session's timer: its deadline, the end of a wait, or an overdue draft or verdict."""
    if now >= session.deadline_at:
        state.metrics.timers.labels("deadline").inc()
        placement.end(state, session, "deadline")
        return
    state.metrics.timers.labels(session.phase).inc()
    match session.phase:
        case "drafting":
            put_on_probation(session, now)
            state.enter(session, "ready", now)
        case "verifying" | "prefilling" | "kept":
            session.misses += 1
            state.set_timer(session, now + state.verdict_wait_s(session))
            state.do(ReadHead(session.id))
        case "blocked":
            state.enter(session, "prefill" if session.prefilling_next else "ready", now)
        case "ready" | "prefill":
            state.set_timer(session, session.deadline_at)


def put_on_probation(session: ScheduledSession, now: float) -> None:
    """Ask for no drafts for a while, doubling each time: a missed draft delays its whole batch."""
    session.draft_after = now + session.penalty_s
    session.penalty_s = min(2 * session.penalty_s, MAX_PENALTY_S)


def _drop_reason(session: ScheduledSession, draft: Draft) -> str:
    """Why a draft cannot be used; "" when it can."""
    if stranger := _stranger(session, draft):
        return stranger
    if draft.base_len > session.length:
        return "ahead"
    if draft.base_len < session.length or session.phase != "drafting":
        return "late"
    return ""


def _stranger(session: ScheduledSession, draft: Draft) -> str:
    """Why a draft is not for this session, or not from its device; "" when it is."""
    if draft.epoch != session.epoch:
        return "epoch"
    return "device" if draft.device != session.device else ""


def _hostility(session: ScheduledSession, draft: Draft) -> str:
    """What no honest device would send; "" when there is nothing of it."""
    count, parents = len(draft.tokens), draft.parents
    if count > session.allowed_k + session.allowed_siblings:
        return "oversized"
    if parents and (len(parents) != count or any(parent >= at for at, parent in enumerate(parents))):
        return "parents"
    return "survival" if survival_error(draft.survival, count) else ""


def _take_late(state: State, session: ScheduledSession, draft: Draft, now: float) -> None:
    """A late draft misses its round, but it proves that the device works and updates its speed estimate."""
    session.caught_up = True
    _observe_draft(state, session, draft, now)
    state.update_view(session, now)


def _observe_draft(state: State, session: ScheduledSession, draft: Draft, now: float) -> None:
    """Update the device's estimate from a draft. A device with implausible values goes on probation."""
    reading = draft.base_len > session.drafted_len + 1
    session.drafted_len = draft.base_len + len(draft.tokens)
    if draft.base_len != session.draft_requested_len or session.drafts == 0:
        return
    device = state.estimates.device(session.device)
    try:
        turnaround_s = now - session.draft_requested_at
        decodes = len(set(draft.parents)) or len(draft.tokens)
        size = 0 if reading else _round_bytes(session, draft)
        has_new_law = device.observe(decodes, draft.draft_us / 1e6, turnaround_s, reading, size)
    except ValueError:
        state.metrics.absurd.labels("draft").inc()
        put_on_probation(session, now)
        return
    if has_new_law:
        _learn_rate(state, name_of(session.device), device)


def _round_bytes(session: ScheduledSession, draft: Draft) -> int:
    """Bytes of the verdict that asked for a draft, as the device got it, and of the draft."""
    return round(verdict_bytes(session.draft_requested_tokens)) + len(encode(draft))


def _learn_rate(state: State, name: str, device: DeviceEstimate) -> None:
    """Note the rate of a device's link; one that cannot be true is counted, and replaced by the slowest seen."""
    try:
        if device.link.law is not None:
            state.estimates.rates.take(name, device.link.law.bits_s)
    except ValueError:
        state.metrics.absurd.labels("rate").inc()
    device.rate_bits_s = state.estimates.rates.bits_s(name)


def _complete_batch(state: State, verdict: Verdict, now: float) -> None:
    """A batch's first verdict completes it; its first verdict with a time gives the pass's cost."""
    session = state.sessions.get(verdict.session)
    own = state.verifiers.get(session.verifier) if session else None
    # A session that has ended or moved no longer names the verifier.
    candidates = [own] if own and own.in_flight.knows(verdict.batch) else state.verifiers.values()
    for verifier in candidates:
        if verifier.in_flight.complete(verdict.batch, now):
            state.dirty.add(verifier.name)
        if verdict.verify_us and (done := verifier.in_flight.pop_measured(verdict.batch)):
            verifier.costs.observe(done.with_fused(verdict.pass_fused), verdict.verify_us / 1000)


def _chained(session: ScheduledSession, verdict: Verdict) -> int:
    """Tokens of the chain in a draft that was verified, from which alone α is learnt."""
    return len(spine(session.parents)) if session.parents and verdict.drafted else verdict.drafted


def _calibrate(state: State, session: ScheduledSession, verdict: Verdict) -> None:
    """Count how the tokens of a draft fared that its device was so sure of. The end of a text may hide some."""
    device = state.estimates.device(session.row_device or session.device)
    nodes = spine(session.parents)
    if session.parents and verdict.straight < len(nodes):  # the first candidate was wrong: was another right?
        parent = session.parents[nodes[verdict.straight]]
        if session.parents.count(parent) > 1:
            device.second.observe(float(verdict.accepted > verdict.straight))
    elif session.temperature is not None and not verdict.finish and not session.parents:
        calibration = device.calibration(session.temperature)
        calibration.observe(session.survival[: verdict.drafted], verdict.accepted)


def _observe_round(
    state: State, session: ScheduledSession, verdict: Verdict, chained: int, now: float
) -> None:
    """Learn from a round. chained: tokens of a device's chain among those drafted."""
    session.acceptance.observe(chained, verdict.straight)
    if chained:
        state.estimates.accepted(session.row_device or session.device, session.acceptance.alpha)
        _calibrate(state, session, verdict)
    state.metrics.observe_round(verdict.drafted, verdict.accepted)
    if state.window is not None:
        round_s = now - session.advanced_at if session.advanced_at else 0.0
        outcome = RoundOutcome(
            session.allowed_k,
            chained,
            verdict.straight,
            round_s,
            verdict.fused_drafted,
            verdict.fused_accepted,
        )
        state.window.observe(session.id, outcome)
    session.advanced_at = now
    if session.verifier in state.verifiers:
        throughput = state.verifiers[session.verifier].throughput
        throughput.observe(verdict.length - session.length)


def _gives_back(session: ScheduledSession, verdict: Verdict) -> bool:
    """Whether a verdict without new tokens says that the verifier keeps the session no more.

    The row that took it back found the log ahead: steps of its tree were committed while the row was on its way. Or a
    step was committed twice, since the first answer was lost.
    """
    own = session.phase == "verifying" and verdict.batch == session.batch
    return not verdict.keeps and (own or session.phase == "kept")


def _comes_back(session: ScheduledSession, verdict: Verdict) -> bool:
    """Whether a row has taken the session back, or will, so that this verdict is of a step before it."""
    own = session.phase in ("verifying", "prefilling") and verdict.batch == session.batch
    return not (own or session.phase == "kept" or session.adopted)


def _on_committed(state: State, session: ScheduledSession, verdict: Verdict, now: float) -> None:
    """Tokens were committed: the device drafts next if the verdict gave it a draft length, else the row is ready."""
    advanced = verdict.length > session.length
    confirmed = verdict.length == session.length and (session.adopted or _gives_back(session, verdict))
    if not (advanced or confirmed or verdict.finish):
        state.metrics.dropped.labels("verdict", "repeated").inc()
        return
    state.cells.went(session.row_device, verdict_bytes(verdict.length - verdict.base_len), now)
    coming_back = verdict.keeps and _comes_back(session, verdict)
    if advanced:
        kept = session.phase == "kept" or coming_back
        _observe_round(state, session, verdict, 0 if kept else _chained(session, verdict), now)
    state.drop_draft(session)
    session.length, session.cached = verdict.length, verdict.length - 1
    session.round = verdict.round + 1
    session.misses = 0
    device_informed = not session.row_device or session.row_device == session.device
    session.adopted = False
    if verdict.finish:
        state.remove(session, verdict.finish)
    elif coming_back and session.phase == "verifying":
        state.update_view(session, now)  # the answer to its row is still to come
    elif verdict.keeps and not coming_back and (device_informed or not verdict.tree):
        session.tree = verdict.tree
        state.enter(session, "kept", now, now + state.verdict_wait_s(session))
    elif verdict.next_k and session.caught_up and device_informed and state.fleet.has_device(session.device):
        session.allowed_k, session.allowed_siblings = verdict.next_k, verdict.siblings
        session.draft_requested_at, session.draft_requested_len = now, verdict.length
        session.draft_requested_tokens = verdict.length - verdict.base_len
        state.enter(session, "drafting", now, now + state.draft_wait_s(session))
    else:
        session.allowed_k = 0
        state.enter(session, "ready", now)
