"""A run that makes no progress: how long it may be silent, and who waits for whom."""

from collections.abc import Iterator
from typing import Any, Final

from loadgen.request import Record
from services.scheduler.scheduler import Scheduler
from services.scheduler.session import ScheduledSession
from simulator.client import SimulatedClient
from simulator.scenario import Away, Delay, Fault, Kill
from simulator.simulation import Simulation
from simulator.stack import SimulatedStack

# Silence that no live load generator would sit out: `loadgen run --stall` has the same default. It is longer than every
# pause after which a service acts by itself; only a session's own deadline, 600 s, is later.
SILENCE_S: Final = 60.0
MAX_LINES: Final = 20  # requests that are named


class Stalled(RuntimeError):
    """No request gets a token any more; the text says which requests wait for what."""


def silence_limit_s(simulation: Simulation, prompt_tokens: int) -> float:
    """Virtual seconds without a token for anybody, from which on a run is stalled.

    SILENCE_S, the scenario's longest fault, and the time in which one verifier reads all prompts under way.
    prompt_tokens: of these.
    """
    scenario, law = simulation.scenario, simulation.law
    chunk = scenario.core.prefill_tokens
    reading_ms = law.cost_ms([(chunk, scenario.core.context)]) * prompt_tokens / chunk
    return SILENCE_S + max(map(_pause_s, scenario.faults), default=0.0) + reading_ms / 1e3


def _pause_s(fault: Fault) -> float:
    """Seconds for which a fault may silence everybody."""
    match fault:
        case Kill(back=back):
            return back.low if back else 0.0
        case Away(broker_away=away):
            return away.low
        case Delay(delay=delay):
            return delay.ms_at(0.0, 0.0) / 1e3


def raise_if_stalled(simulation: Simulation, stack: SimulatedStack, client: SimulatedClient) -> None:
    """Raise Stalled when requests are in flight and none has got a token for too long."""
    silent_s = client.now() - client.progressed_at
    if silent_s < SILENCE_S or not client.in_flight:
        return
    waiting = list(client.in_flight.values())
    if silent_s >= silence_limit_s(simulation, sum(len(record.request.prompt) for record in waiting)):
        lines = [*_missing(stack), *_lines(waiting, stack, client)]
        raise Stalled(
            f"no request has got a token for {silent_s:.0f} s of virtual time, and {len(waiting)} wait:"
            + "".join(f"\n  {line}" for line in lines)
        )


def _missing(stack: SimulatedStack) -> Iterator[str]:
    """Processes that are dead, or cannot reach the broker."""
    if stack.outage.down:
        yield "the broker is away"
    for process in stack.processes.values():
        if not process.incarnation.alive:
            yield f"{process.name} is dead" + ("" if process.returns else ", and does not come back")


def _lines(waiting: list[Record], stack: SimulatedStack, client: SimulatedClient) -> Iterator[str]:
    """What each request waits for."""
    sessions = _sessions(stack)
    for record in waiting[:MAX_LINES]:
        request, since = record.request, record.chunks[-1].at if record.chunks else record.sent
        waited_s = client.now() - since
        reason = _reason(sessions.get(client.session_ids.get(request.id, "")))
        yield (
            f"{request.id}, {len(record.tokens)} of {request.max_tokens} tokens, "
            f"has waited {waited_s:.0f} s for {reason}"
        )
    if len(waiting) > MAX_LINES:
        yield f"and {len(waiting) - MAX_LINES} more"


def _sessions(stack: SimulatedStack) -> dict[str, ScheduledSession]:
    """All sessions that a living scheduler with the lease knows."""
    found: dict[str, ScheduledSession] = {}
    for scheduler, _ in stack.living(Scheduler):
        if scheduler.core is not None:
            found |= scheduler.core.sessions
    return found


def _reason(session: ScheduledSession | None) -> str:
    if session is None:
        return "a scheduler: none knows it"
    if not session.verifier:
        return "a verifier: none lives"
    device = session.device.partition(":")[0] or "no device"
    reasons: dict[Any, str] = {
        "prefill": f"a batch of {session.verifier} with its prompt",
        "prefilling": f"{session.verifier} to read its prompt",
        "drafting": f"a draft from {device}",
        "ready": f"a batch of {session.verifier} to close",
        "verifying": f"the verdict of {session.verifier}",
        "kept": f"further verdicts of {session.verifier}, which keeps it",
        "blocked": f"free pages of {session.verifier}",
    }
    return reasons[session.phase]
