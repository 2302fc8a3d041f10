"""The scheduler's shell on the in-memory broker and a virtual clock, with a minimal verifier and device."""

import asyncio

import pytest

from services.scheduler.scheduler import CONSUMER
from shared.broker.memory_broker import MemoryBroker
from shared.planning.policies import POLICY_NAMES, make_policy
from shared.protocol import wire
from shared.protocol.messages import (
    Cancel,
    Control,
    Heartbeat,
    Open,
    Submit,
    Tune,
)
from shared.protocol.session import SessionSpec
from shared.runtime.settings import SettingsError
from shared.speculative.params import SamplingParams
from tests.services.scheduler.scheduler_stack import KEYS, Cut, LateNews, Stack, on_a_stack, running


@pytest.mark.parametrize("policy", POLICY_NAMES)
def test_sessions_are_served_to_their_end_and_nothing_is_left(policy: str) -> None:
    async def play(stack: Stack) -> None:
        stop = asyncio.Event()
        scheduler = stack.scheduler(policy=policy, prefill_tokens=16)
        async with running(scheduler.run(stop)) as (served,):
            names = [f"s{n}" for n in range(6)]
            await stack.submit(*names)
            await stack.finished(*names)
            await stack.idle()
            stop.set()
            await served
        assert await stack.broker.lease.acquire("next", 1.0) > 0  # given back
        if policy in (
            "autoregressive",
            "greedy-batch",
            "fixed-k",
        ):  # in the others it comes of what was measured
            assert stack.longest_draft == (4 if policy == "fixed-k" else 0)
            assert stack.widest == (1 if policy == "autoregressive" else 6)
        if make_policy(policy).plans:
            assert scheduler.metrics.plans.labels("made")._value.get() > 0
        seen = scheduler.metrics.registry.get_sample_value
        assert seen("outrider_scheduler_received_bytes_total", {"stream": KEYS.verdicts})

    on_a_stack(play)


def test_speculation_takes_fewer_batches() -> None:
    async def play(stack: Stack) -> None:
        async with running(stack.scheduler(policy="fixed-k").run(asyncio.Event())):
            await stack.submit("s")
            await stack.finished("s")
        assert stack.batches <= 30 / 5 + 3

    on_a_stack(play)


def test_bad_bytes_are_dead_letters_and_nobody_else_is_affected() -> None:
    async def play(stack: Stack) -> None:
        scheduler = stack.scheduler()
        stack.server.add(KEYS.submit, b"\x01\xff")
        stack.server.add(KEYS.draft, b"")
        stack.server.add(KEYS.verdicts, wire.encode(Open("s", 1, 1)))
        async with running(scheduler.run(asyncio.Event())):
            await stack.submit("s")
            await stack.finished("s")
            await stack.idle()
        assert await stack.broker.streams.length(KEYS.dead) == 3

    on_a_stack(play)


def test_a_device_of_another_protocol_version_that_runs_on_drafts_for_nobody() -> None:
    async def play(stack: Stack) -> None:
        stack.device_version = 3
        await asyncio.sleep(2.0)
        async with running(stack.scheduler(policy="fixed-k").run(asyncio.Event())):
            await stack.submit("s")
            await stack.finished("s")
            await stack.idle()
        assert stack.longest_draft == 0

    on_a_stack(play)


def test_cancel_ends_a_session() -> None:
    async def play(stack: Stack) -> None:
        async with running(stack.scheduler().run(asyncio.Event())):
            await stack.submit("s", tokens=1000)
            await asyncio.sleep(1.0)
            await stack.broker.streams.push(KEYS.submit, Cancel("s"))
            await asyncio.sleep(0.5)
            assert (await stack.broker.sessions.head("s")).finish == "cancel"
            await stack.idle()

    on_a_stack(play)


def test_control_changes_the_policy_and_the_next_scheduler_keeps_it() -> None:
    async def play(stack: Stack) -> None:
        first = stack.scheduler(policy="greedy-batch")
        stop = asyncio.Event()
        async with running(first.run(stop)) as (served,):
            await asyncio.sleep(1.0)
            assert (await stack.broker.records.get(KEYS.policy))["policy"] == "greedy-batch"
            await stack.broker.streams.push(KEYS.submit, Control("cyclic-k", 7, verifier_threads=2))
            await stack.submit("a", "b")
            await stack.finished("a", "b")
            assert stack.longest_draft == 7
            assert stack.tunes == [Tune(2)]
            stop.set()
            await served
        second = stack.scheduler(policy="greedy-batch")
        async with running(second.run(asyncio.Event())):
            await asyncio.sleep(1.0)
            assert second.core is not None
            assert (second.core.policy.name, second.core.policy.k) == ("cyclic-k", 7)

    on_a_stack(play)


def test_a_scheduler_that_is_killed_is_followed_by_a_standby() -> None:
    async def play(stack: Stack) -> None:
        first, second = stack.scheduler("one"), stack.scheduler("two")
        async with running(first.run(asyncio.Event())) as (killed,):
            await asyncio.sleep(0.5)
            async with running(second.run(asyncio.Event())):
                names = [f"s{n}" for n in range(4)]
                await stack.submit(*names, tokens=400)
                await asyncio.sleep(0.7)
                assert second.core is None
                assert second.not_ready_reason() is None
                killed.cancel()
                await stack.finished(*names)
                assert second.core is not None
                await stack.idle()

    on_a_stack(play)


def test_twice_in_a_row() -> None:
    async def play(stack: Stack) -> None:
        names = [f"s{n}" for n in range(4)]
        await stack.submit(*names, tokens=600)
        for _ in range(2):
            async with running(stack.scheduler().run(asyncio.Event())):
                await asyncio.sleep(4.0)
        async with running(stack.scheduler().run(asyncio.Event())):
            await stack.finished(*names)
            await stack.idle()

    on_a_stack(play)


def test_one_that_was_cut_off_stops_staging_and_stands_by() -> None:
    async def play(stack: Stack) -> None:
        link = Cut()
        first, second = stack.scheduler("one", link), stack.scheduler("two")
        async with running(first.run(asyncio.Event())):
            await asyncio.sleep(0.5)
            async with running(second.run(asyncio.Event())):
                await stack.submit("s", tokens=600)
                await asyncio.sleep(0.5)
                assert first.core is not None
                link.off = True
                await asyncio.sleep(4.5)
                assert first.core is None
                assert first.not_ready_reason() == "broker away"
                assert second.core is not None
                link.off = False
                await stack.finished("s")
                assert first.core is None
                await stack.idle()

    on_a_stack(play)


def test_a_broker_that_is_away_for_a_moment_only_costs_time() -> None:
    async def play(stack: Stack) -> None:
        link = Cut()
        async with running(stack.scheduler(link=link).run(asyncio.Event())):
            names = [f"s{n}" for n in range(4)]
            await stack.submit(*names, tokens=300)
            for _ in range(2):
                await asyncio.sleep(0.7)
                link.off = True
                await asyncio.sleep(0.3)
                link.off = False
            await stack.finished(*names)
            await stack.idle()

    on_a_stack(play)


def test_a_broker_that_lost_its_data_is_begun_with_anew() -> None:
    async def play(stack: Stack) -> None:
        scheduler = stack.scheduler()
        async with running(scheduler.run(asyncio.Event())):
            await stack.submit("old", tokens=100_000)
            await asyncio.sleep(1.0)
            stack.server.wipe()
            await asyncio.sleep(3.0)
            assert scheduler.core is not None
            assert not scheduler.core.sessions
            await stack.submit("new")
            await stack.finished("new")

    on_a_stack(play)


def test_a_live_session_whose_submit_was_lost_is_found() -> None:
    async def play(stack: Stack) -> None:
        async with running(stack.scheduler().run(asyncio.Event())):
            await asyncio.sleep(0.5)
            stray = MemoryBroker(stack.server)
            spec = SessionSpec("s", (1, 2), SamplingParams(1, 100), 5, (), "g:1", deadline_ms=60_000)
            reader = asyncio.ensure_future(stray.streams.read_group([KEYS.submit], CONSUMER, 1, 1.0))
            await asyncio.sleep(0.3)  # the scheduler is between two reads, the stray reader is first
            await stray.sessions.submit(spec, Submit("s", 2, 5, 60_000, "g:1"))
            await reader
            await stack.finished("s")
            await stack.idle()

    on_a_stack(play)


def test_an_unknown_policy_is_a_setting_error_that_names_it() -> None:
    with pytest.raises(SettingsError, match=r"OUTRIDER_POLICY.*'best'.*cyclic-k"):
        Stack().scheduler(policy="best")


def test_a_device_that_has_just_come_gets_its_share_of_new_sessions() -> None:
    async def play(stack: Stack) -> None:
        async with running(stack.scheduler().run(asyncio.Event())):
            await asyncio.sleep(0.2)  # after a look at the fleet, well before the next
            await stack.broker.presence.beat(Heartbeat("draft_worker", "e", 1, capacity=64), 4.0)
            await stack.submit("s", "t")
            await asyncio.sleep(0.02)
            heads = [await stack.broker.sessions.head(name) for name in ("s", "t")]
            assert {head.device for head in heads} == {"d:1", "e:1"}

    on_a_stack(play)


def test_a_look_at_the_fleet_that_is_answered_late_undoes_no_later_one() -> None:
    async def play(stack: Stack) -> None:
        link = LateNews()
        scheduler = stack.scheduler(link=link)
        async with running(scheduler.run(asyncio.Event())):
            await asyncio.sleep(5.0)  # who is not seen any more counts as gone by now
            link.late_s = 0.2
            await link.requested.wait()
            link.late_s = 0.0
            await asyncio.sleep(0.06)  # what was known before is too old to place by
            await stack.broker.presence.beat(Heartbeat("draft_worker", "e", 1, capacity=64), 4.0)
            await stack.submit("s", "t", tokens=60)
            await asyncio.sleep(0.4)  # and has been answered
            heads = [await stack.broker.sessions.head(name) for name in ("s", "t")]
            assert {head.device for head in heads} == {"d:1", "e:1"}
            assert scheduler.metrics.moves.labels("device")._value.get() == 0

    on_a_stack(play)


def test_a_draft_that_is_read_together_with_its_verdict_is_used() -> None:
    """As after any pause of the scheduler: here it waits for a fleet to place another session on."""

    async def play(stack: Stack) -> None:
        link = LateNews()
        scheduler = stack.scheduler(link=link, policy="fixed-k", k=2)
        async with running(scheduler.run(asyncio.Event())):
            await stack.submit("s", tokens=60)
            await asyncio.sleep(0.4)
            link.late_s = 0.2
            await stack.submit("t")
            await link.requested.wait()
            link.late_s = 0.0
            await stack.finished("s", "t")
        dropped = scheduler.metrics.registry.get_sample_value
        reasons = ("ahead", "late")
        names = "outrider_scheduler_dropped_messages_total"
        assert [dropped(names, {"kind": "draft", "reason": reason}) or 0 for reason in reasons] == [0, 0]

    on_a_stack(play)
