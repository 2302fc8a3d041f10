"""Places sessions on verifiers and devices, and moves them when processes start, stop or restart."""

from collections.abc import Mapping

from services.scheduler.bandwidth import open_on_device
from services.scheduler.effects import End, PlaceSession, SendToDevice, SendToVerifier
from services.scheduler.fleet import LiveProcesses, address, choose_device, choose_verifier
from services.scheduler.session import ScheduledSession
from services.scheduler.state import State
from services.scheduler.verifiers import VerifierState
from shared.planning.session_index import SessionIndex
from shared.protocol import limits
from shared.protocol.messages import Close, Finish, Heartbeat, Tune


def update_fleet(state: State, fleet: LiveProcesses, now: float, trusted: bool) -> None:
    """Update the live processes. trusted: absence means death; not so just after a start or a broker outage."""
    before, state.fleet = state.fleet, fleet
    state.loads.update(fleet.devices.values(), now)
    state.cells.update(fleet.devices.values(), now)
    if any(state.threads):
        tune(
            state,
            _new_processes(before.verifiers, fleet.verifiers),
            _new_processes(before.devices, fleet.devices),
        )
    alive = fleet.device_addresses
    state.draining &= alive
    for beat in fleet.devices.values():
        _update_device(state, beat)
    for beat in fleet.verifiers.values():
        _add_verifier(state, beat, now)
    if trusted:
        for verifier in [v for v in state.verifiers.values() if v.name not in fleet.verifiers]:
            _remove_verifier(state, verifier, now)
            if not len(verifier.cohort):  # no session waits for its return; the next may have another name
                del state.verifiers[verifier.name]
                state.metrics.forget_verifier(verifier.name)
        _close_orphans(state, now)
        for session in [s for s in state.sessions.values() if s.device and s.device not in alive]:
            state.metrics.moves.labels("device").inc()
            replace_device(state, session, now)
    for session_id in list(state.unplaced):
        place(state, state.sessions[session_id], now)
    _offer_devices(state, now)


def _offer_devices(state: State, now: float) -> None:
    """Offer devices to sessions without one. A session that wants one certain device does not block the others."""
    waiting = [state.sessions[session_id] for session_id in state.deviceless]
    room = True
    for session in [s for s in waiting if s.offer_after <= now]:
        if session.device_wanted:
            replace_device(state, session, now)
        elif room:
            room = replace_device(state, session, now)


def place(state: State, session: ScheduledSession, now: float) -> None:
    """Give a session without a verifier a verifier, with a new epoch, and a device."""
    live = {name: len(v.cohort) for name, v in state.verifiers.items() if v.live}
    session.verifier = choose_verifier(live)
    if not session.verifier:
        state.unplaced[session.id] = None
        return
    state.unplaced.pop(session.id, None)
    session.epoch += 1
    if not state.fleet.has_device(session.device):
        state.release_device(session)
        _choose_device(state, session)
        session.caught_up = True  # a late first draft costs no more than any other late draft
    _publish_placement(state, session, now)
    state.update_view(session, now)


def replace_device(state: State, session: ScheduledSession, now: float, refused: str = "") -> bool:
    """Replace the session's device. It runs at k = 0 until the new device reports ready.

    Returns False when no device has room; the session then stays at k = 0.
    """
    old = session.device
    if old and state.fleet.has_device(old):
        state.do(SendToDevice(old, Close(session.id, session.epoch, "")))
    state.release_device(session)
    _choose_device(state, session, refused)
    session.caught_up = False
    session.drafts = 0
    if session.phase == "drafting":
        state.enter(session, "ready", now)
    if session.verifier and (session.device or old):
        _publish_placement(state, session, now)
    state.update_view(session, now)
    return bool(session.device)


def reopen(state: State, session: ScheduledSession, now: float) -> None:
    """Reopen the session on a device that has a gap; k = 0 until the device reports ready."""
    session.caught_up = False
    open_on_device(state, session, now)
    if session.phase == "drafting":
        state.enter(session, "ready", now)
    state.update_view(session, now)


def end(state: State, session: ScheduledSession, finish: Finish, message: str = "") -> None:
    """End a session in its log and on its verifier, device and gateway."""
    live = session.verifier in state.verifiers and state.verifiers[session.verifier].live
    device = session.device if state.fleet.has_device(session.device) else ""
    close = session.close(finish, message)
    state.do(End(session.id, close, session.verifier if live else "", device, session.gateway))
    state.remove(session, finish)


def tune(state: State, verifiers: list[Heartbeat], devices: list[Heartbeat]) -> None:
    """Send the requested thread counts to these processes, if any were requested."""
    verifier_threads, draft_threads = state.threads
    if verifier_threads:
        for beat in verifiers:
            state.do(SendToVerifier(beat.name, Tune(verifier_threads)))
    if draft_threads:
        for beat in devices:
            state.do(SendToDevice(address(beat), Tune(draft_threads)))


def _new_processes(before: Mapping[str, Heartbeat], after: Mapping[str, Heartbeat]) -> list[Heartbeat]:
    known = {address(beat) for beat in before.values()}
    return [beat for beat in after.values() if address(beat) not in known]


def _choose_device(state: State, session: ScheduledSession, refused: str = "") -> None:
    session.device = choose_device(
        state.fleet, session.device_wanted, state.loads, state.draining | {refused}
    )
    if session.device:
        state.loads.add(session.device)
        session.acceptance = state.estimates.acceptance(session.device)
        state.deviceless.pop(session.id, None)
    else:
        state.deviceless[session.id] = None


def _publish_placement(state: State, session: ScheduledSession, now: float) -> None:
    """Write the placement to the log and open the session on its device."""
    state.do(PlaceSession(session.id, session.epoch, session.verifier, session.device))
    if session.device:
        open_on_device(state, session, now)


def _update_device(state: State, beat: Heartbeat) -> None:
    """Update a device's estimate from its heartbeat; implausible values are counted and ignored."""
    try:
        state.estimates.device(address(beat)).expect(beat.draft_us_per_token / 1e6, beat.rtt_us / 1e6)
    except ValueError:
        state.metrics.absurd.labels("heartbeat").inc()


def _add_verifier(state: State, beat: Heartbeat, now: float) -> None:
    """Add a live verifier, or update a known one that beats, has come back or has restarted."""
    name, generation = beat.name, beat.generation
    verifier = state.verifiers.get(name)
    if verifier is None:
        cohort = SessionIndex(state.policy.lanes)
        cost = state.estimates.verifier(name)
        state.add_verifier(VerifierState(name, generation, cohort, cost, beat.capacity))
        return
    restarted = verifier.generation not in (0, generation)  # 0: known from a session log only
    verifier.live, verifier.generation, verifier.kv_tokens = True, generation, beat.capacity
    if restarted:
        _rebuild_sessions(state, verifier, now)
    state.dirty.add(name)


def _remove_verifier(state: State, verifier: VerifierState, now: float) -> None:
    """Move a dead verifier's sessions to another with a new epoch; without one they wait until their deadlines."""
    if verifier.live:
        verifier.live = False
        _rebuild_sessions(state, verifier, now)
    if not any(other.live for other in state.verifiers.values()):
        return
    for view in list(verifier.cohort):
        session = state.sessions[view.session]
        state.metrics.moves.labels("verifier").inc()
        state.release_verifier(session)
        state.drop_draft(session)
        session.cached = 0
        place(state, session, now)
        state.enter(session, "prefill", now)


def _rebuild_sessions(state: State, verifier: VerifierState, now: float) -> None:
    """A verifier lost its cache and batches: feed its sessions again in chunks, the last of them a k = 0 row.

    It may still answer batches that it finds in its stream; the log makes repeated answers harmless.
    """
    verifier.in_flight.clear()
    for view in list(verifier.cohort):
        session = state.sessions[view.session]
        session.cached = 0
        if session.phase != "drafting" and session.held is None:
            state.enter(session, "prefill", now)


def _close_orphans(state: State, now: float) -> None:
    """End sessions whose gateway is gone. Young ones are spared: a new gateway's first beat may be on its way."""
    gateways = {address(beat) for beat in state.fleet.gateways.values()}
    old = now - limits.HEARTBEAT_TTL_S
    orphans = [s for s in state.sessions.values() if s.gateway not in gateways and s.opened_at < old]
    for session in orphans:
        end(state, session, "cancel")
