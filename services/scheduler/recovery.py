"""New sessions: from a Submit, or from the session log at a term's start and after a missed message."""

from services.scheduler import placement
from services.scheduler.effects import ReadHead
from services.scheduler.session import ScheduledSession
from services.scheduler.state import State
from services.scheduler.verifiers import VerifierState
from shared.planning.session_index import SessionIndex
from shared.protocol import limits
from shared.protocol.messages import Submit
from shared.protocol.session import SessionHead


def on_submit(state: State, submit: Submit, now: float, again: bool) -> None:
    """Add and place a new session. A redelivered Submit may be for one that has ended, so its log is read first."""
    if submit.session in state.sessions:
        state.metrics.dropped.labels("submit", "repeated").inc()
        return
    if again:
        state.do(ReadHead(submit.session))
        return
    session = ScheduledSession(
        id=submit.session,
        joined=0,
        prompt_len=submit.prompt_len,
        max_tokens=submit.max_tokens,
        deadline_at=now + submit.deadline_ms / 1000,
        gateway=submit.gateway,
        device_wanted=submit.device,
        temperature=submit.temperature,
        length=submit.prompt_len,
        opened_at=now,
    )
    state.add(session, now)
    placement.place(state, session, now)


def adopt(state: State, head: SessionHead, now: float) -> None:
    """Adopt a live session from its log. It counts as drafting until `resume`, so that a draft or verdict that
    is under way is accepted."""
    if head.finish or head.session in state.sessions:
        return
    session = ScheduledSession(
        id=head.session,
        joined=0,
        prompt_len=head.prompt_len,
        max_tokens=head.max_tokens,
        deadline_at=now + head.deadline_ms / 1000,
        gateway=head.gateway,
        device_wanted=head.device_wanted,
        length=head.length,
        opened_at=now,
        epoch=head.epoch,
        verifier=head.verifier,
        device=head.device,
        cached=head.length - 1 if head.committed else 0,
        adopted=True,
        allowed_k=limits.MAX_DRAFT,
    )
    state.add(session, now)
    if not session.verifier:
        session.adopted = False
        placement.place(state, session, now)
        return
    if session.device:
        state.loads.add(session.device)
    else:
        state.deviceless[session.id] = None
    if session.verifier not in state.verifiers:  # dead, or its heartbeat has not been read yet
        cost = state.estimates.verifier(session.verifier)
        absent = VerifierState(session.verifier, 0, SessionIndex(state.policy.lanes), cost, live=False)
        state.add_verifier(absent)
    state.enter(session, "drafting", now, now + state.config.move_timeout_s)


def resume_all(state: State, now: float) -> None:
    """Resume every adopted session for which no message has arrived."""
    for session in list(state.sessions.values()):
        if session.adopted:
            resume(state, session, now)


def resume(state: State, session: ScheduledSession, now: float) -> None:
    """Continue a session with a k = 0 row at its committed length, or with its prompt's next chunk."""
    session.adopted = False
    state.drop_draft(session)
    state.enter(session, "ready" if session.committed else "prefill", now)


def on_head(state: State, head: SessionHead, now: float) -> None:
    """Handle the log head of a session whose verdict is overdue, or that was unknown here."""
    session = state.sessions.get(head.session)
    if session is None:
        adopt(state, head, now)
        if head.session in state.sessions and state.sessions[head.session].adopted:
            resume(state, state.sessions[head.session], now)
        return
    if head.finish:
        state.remove(session, head.finish)
        return
    if session.phase not in ("verifying", "prefilling", "kept"):
        return
    session.epoch = max(session.epoch, head.epoch)
    if head.length > session.length:  # the verdict was lost
        session.length, session.cached = head.length, head.length - 1
        state.enter(session, "ready", now)
    else:
        state.enter(session, "prefill" if session.phase == "prefilling" else "ready", now)
