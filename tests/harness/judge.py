"""Plays a scenario and judges it by what docs/architecture.md promises.

- Text: everybody gets the target's own text, once, in order; the log has the same. Who was cut off (their gateway died,
  or the broker was away for longer than the grace) has the beginning of it. Nobody else gets an error.
- Liveness: everybody ends, and the processes are ready again after the last fault. Users who come then are served
  within a minute, with drafts where the policy asks for them in every round.
- Nothing is left: no live session, no cache, no state in a service, no entry in a work stream, no dead letter.
- Keys: those that do not expire are known and do not grow; once all processes have stopped, all others go.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from services.draft_worker.worker import DraftWorker
from services.scheduler.core import Core
from services.scheduler.scheduler import Scheduler
from services.verifier.verifier import Verifier
from shared.compute.modelled import STOP
from shared.compute.modelled_drafter import ModelledDrafter
from shared.compute.modelled_target import ModelledTarget
from shared.protocol import limits
from simulator import services
from simulator.seeded_loop import run_seeded
from simulator.virtual_loop import run_virtual
from tests.harness.scenario import Scenario, User
from tests.harness.world import WARM_S, World

SERVED_S: Final = 60.0  # for users who come after all faults
FREE_S: Final = 200.0  # after the last user, for everything to be freed
EXPIRED_S: Final = limits.TRACE_KEPT_S + 600.0  # after the last process, for all keys to expire
LATER_USERS: Final = 2
DEADLY: Final = "error: verification failed repeatedly"
ALWAYS_DRAFTING: Final = ("fixed-k", "cyclic-k")


def play(scenario: Scenario) -> World:
    """Play a scenario under virtual time; raises AssertionError when it does not come out right."""
    if scenario.order is None:
        return run_virtual(_play(scenario))
    return run_seeded(_play(scenario), scenario.order)


async def _play(scenario: Scenario) -> World:
    world, loop = World(scenario), asyncio.get_running_loop()
    swallowed: list[str] = []
    loop.set_exception_handler(lambda _, context: swallowed.append(_described(context)))
    async with world.stack:
        await asyncio.sleep(WARM_S)
        befalling = asyncio.create_task(world.befall(loop.time()))
        users = await world.wave(scenario.users)
        await befalling
        _judge(world, users)
        await world.ready()
        await asyncio.sleep(limits.HEARTBEAT_TTL_S + 1.0)  # by then the scheduler knows who is there
        began = loop.time()
        users = await world.wave(LATER_USERS, later=True)
        assert loop.time() - began < SERVED_S, f"served only {loop.time() - began:.0f} s after all faults"
        _judge(world, users)
        if _must_draft(scenario):
            assert any(user.drafted for user in users), f"no drafts after all faults, of {scenario.policy}"
        await _judge_freed(world)
    _judge_tasks()
    await _judge_expired(world)
    assert not swallowed, f"errors that nobody handled: {swallowed}"
    world.ended_s = loop.time()
    for counter in world.stack.counters.values():
        world.met.update(counter.hit)
    return world


def _described(context: dict[str, Any]) -> str:
    """What asyncio reports of an error in a callback, or of a task whose error nobody reads."""
    error = context.get("exception")
    return f"{context['message']}: {type(error).__name__}: {error}"


def _judge(world: World, users: Sequence[User]) -> None:
    world.stack.raise_if_failed()
    for user in users:
        _judge_user(world.scenario, user)


def _judge_user(scenario: Scenario, user: User) -> None:
    """Judge what a user has got."""
    got, log = tuple(user.tokens), user.log
    cut = user.gateway_ended or user.end == "left"
    cut |= user.end.startswith("draining:") and any(stop.process == user.gateway for stop in scenario.stops)
    if not user.later and scenario.loses_a_verifier(limits.MAX_DELIVERIES):
        cut |= user.end == DEADLY  # its row was there each time, as if the row were what kills
    if not user.later and scenario.breaks(user.gateway):
        cut |= user.end.startswith(("broker:", "cancel:"))
        cut |= scenario.wiped and user.end == "error: unknown session"  # a verifier missed the log first
    text = None if log is None else log.committed
    message = f": {user.session} ({user.end}): {got}, log {text}, expected {user.expected}"
    if log is None:
        assert scenario.wiped, "log gone" + message
    elif cut:
        assert log.committed == user.expected[: len(log.committed)], "log of a cut stream" + message
    else:
        assert got == log.committed, "text is not the log" + message
        assert tuple(user.logprobs) == log.logprobs, "logprobs are not the log's" + message
    if cut:
        assert got == user.expected[: len(got)], "text of a cut stream" + message
    else:
        assert got == user.expected, "text" + message
        assert user.end == ("stop" if STOP in user.expected else "length"), "end" + message
    assert len(user.logprobs) == (len(got) if scenario.logprobs else 0), "number of logprobs" + message


def _must_draft(scenario: Scenario) -> bool:
    """Whether users who come after all faults get drafts for sure.

    The policy always asks for them, a quick device is there, and no fault at a numbered call can befall them.
    """
    there = any(f"device-{n}" not in scenario.gone for n in range(scenario.devices))
    quick = (
        scenario.latency_s <= 0.005
        and not scenario.device_delay_s
        and scenario.draft_ms <= 8
        and not scenario.loss
    )
    requested = (
        scenario.policy in ALWAYS_DRAFTING
        and not scenario.window
        and scenario.k > 0
        and scenario.tokens >= 4
        and not scenario.stop_every
    )
    return requested and there and quick and not (scenario.switches or scenario.faults or scenario.wishes)


async def _judge_freed(world: World) -> None:
    """Nothing is left anywhere: not in a cache, not in a service's state, not in the broker."""
    loop = asyncio.get_running_loop()
    end = loop.time() + FREE_S
    while (left := await leftovers(world)) and loop.time() < end:
        await asyncio.sleep(1.0)
    assert not left, f"left behind: {left}"


async def leftovers(world: World) -> dict[str, Any]:
    """What is still held, by where."""
    keys, server, gone = world.keys, world.server, world.scenario.gone
    staged = {name: keys.staged(name) for name in world.targets}
    # What a process that is gone for good has not read stays until its stream expires.
    streams = [keys.submit, keys.draft, keys.verdicts, *(staged[name] for name in staged if name not in gone)]
    left: dict[str, Any] = {"live": await world.broker.sessions.live()}
    dead = [] if world.scenario.loses_a_verifier(limits.MAX_DELIVERIES) else [keys.dead]
    left |= {stream: server.length(stream) for stream in [*streams, *dead]}
    lasting = {*_lasting(world), *staged.values()}
    left["keys without expiry"] = server.keys_without_expiry() - lasting
    for name, service in world.stack.services.items():
        if name not in gone:
            left |= {f"{name} {what}": held for what, held in _held(world, name, service).items()}
    return {where: what for where, what in left.items() if what}


def _held(world: World, name: str, service: Any) -> dict[str, Any]:
    """What a service still holds of sessions, by what it is."""
    caches: dict[str, ModelledTarget | ModelledDrafter] = {**world.targets, **world.drafters}
    held: dict[str, Any] = {"cache": set(caches[name].sessions())} if name in caches else {}
    match service:
        case Verifier():
            held |= {"sessions": len(service.sessions), "rows": len(service.sessions._last_row)}
            used, _ = world.targets[name].pages()
            held["core drafts"] = set(world.core_drafters[name].sessions())
            held["pages"] = 0 if world.scenario.sharing else used
        case Scheduler(core=Core() as core):
            state = core._state
            held |= {
                "sessions": set(core.sessions),
                "drafts": set(state.holding),
                "timers": len(state.timers._due_at),
            }
            held |= {"unplaced": set(state.unplaced), "without device": set(state.deviceless)}
            held["rows"] = sum(verifier.in_flight.rows() for verifier in state.verifiers.values())
        case DraftWorker():
            held["sessions"] = len(service._serving.sessions) if service._serving else 0
        case services.Gateway():
            held |= {"sessions": len(service.sessions), "cancels": len(service.sessions._cancels)}
    return held


def _lasting(world: World) -> set[str]:
    """Keys that never expire: records, counters, and the work streams and live sessions, whose lengths are judged."""
    keys = world.keys
    return {
        keys.submit,
        keys.draft,
        keys.verdicts,
        keys.generation,
        keys.term,
        keys.policy,
        keys.deployment,
        keys.live,
    }


def _judge_tasks() -> None:
    """Every task of a stopped process has ended."""
    left = sorted(task.get_name() for task in asyncio.all_tasks() - {asyncio.current_task()})
    assert not left, f"tasks run on: {left}"


async def _judge_expired(world: World) -> None:
    """All other keys go by themselves."""
    await asyncio.sleep(EXPIRED_S)
    left = world.server.keys() - _lasting(world) - {world.keys.dead}  # dead letters stay for a week
    assert not left, f"keys that do not expire: {sorted(left)}"
