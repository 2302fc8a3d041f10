"""The device's shell on the in-memory broker and a virtual clock, as a scheduler sees it."""

import asyncio
from collections.abc import Sequence
from itertools import pairwise

import pytest

from shared.broker.contract import BrokerAway, CommitRow
from shared.broker.memory_broker import MemoryBroker, MemoryServer
from shared.broker.memory_link import Direct
from shared.protocol import wire
from shared.protocol.messages import (
    Close,
    Draft,
    Heartbeat,
    Message,
    Open,
    Resync,
    Span,
    Tune,
    Verdict,
)
from shared.protocol.wire import decode_as
from shared.runtime.presence import Superseded
from shared.runtime.service import Refused
from tests.services.draft_worker.worker_world import DEPLOYMENT, KEYS, PROMPT, VOCAB, World, play, verdict


def test_open_verdict_draft_close() -> None:
    async def scene(world: World) -> None:
        await world.start()
        await world.opened()
        await world.send(verdict(24, (99,)))
        (draft,) = await world.replies()
        assert isinstance(draft, Draft)
        assert (draft.base_len, draft.epoch, draft.device, len(draft.tokens)) == (25, 1, world.address, 4)
        assert draft.draft_us >= 4 * 8000
        await world.send(Close("s", 1, "stop"))
        assert await world.replies() == []
        assert world.drafter.sessions() == frozenset()
        assert world.count("outrider_device_drafted_tokens_total") == 4 + 3 * 8  # and the calibration's
        assert world.count("outrider_device_sessions") == 0

    play(scene)


def test_verdicts_late_twice_out_of_order_and_with_a_gap() -> None:
    async def scene(world: World) -> None:
        await world.start()
        await world.opened()
        await world.send(verdict(24, (99,)), verdict(24, (99,)))
        assert [len(message.tokens) for message in await world.replies() if isinstance(message, Draft)] == [4]
        # The verdict between is missing, as when the inbox was cut: another Open brings the log.
        row = Verdict("s", 1, 2, 24, (99, 98, 97), 27)
        await world.broker.sessions.commit("v", "", [CommitRow(row, "", "")])
        row = Verdict("s", 1, 3, 27, (96,), 28, next_k=3)
        await world.broker.sessions.commit("v", "", [CommitRow(row, world.address, "")])
        assert await world.replies() == [Resync("s", 1, world.address, 25, "gap")]
        await world.send(Open("s", 1, 28))
        assert await world.replies() == [Resync("s", 1, world.address, 28, "ready")]
        await world.send(verdict(28, (95,), next_k=3))
        (draft,) = await world.replies()
        assert isinstance(draft, Draft)
        assert (draft.base_len, len(draft.tokens)) == (29, 3)
        await world.send(verdict(24, (99,)), verdict(24, (99, 98)))  # late
        assert await world.replies() == []
        assert world.count("outrider_device_refused_total", reason="gap") == 1
        assert world.count("outrider_device_refused_total", reason="late") == 2

    play(scene)


def test_k_zero_only_catches_up() -> None:
    async def scene(world: World) -> None:
        await world.start()
        await world.opened()
        await world.send(verdict(24, (99,), next_k=0))
        assert await world.replies() == []
        await world.send(verdict(25, (98,), next_k=2))
        (draft,) = await world.replies()
        assert isinstance(draft, Draft)
        assert len(draft.tokens) == 2

    play(scene)


def test_an_unknown_session_is_lost_once_and_can_be_opened_again() -> None:
    async def scene(world: World) -> None:
        await world.start()
        await world.submit()
        await world.send(verdict(24, (99,)), verdict(25, (98,)))
        assert await world.replies() == [Resync("s", 1, world.address, 25, "lost")]
        await world.send(Open("s", 1, 24))
        assert await world.replies() == [Resync("s", 1, world.address, 24, "ready")]

    play(scene)


def test_no_capacity_for_a_session_too_many_or_too_long() -> None:
    async def scene(world: World) -> None:
        await world.start()
        await world.opened("a", PROMPT)
        await world.submit("b", (5,) * 190)
        await world.send(Open("b", 1, 190))
        assert await world.replies() == [Resync("b", 1, world.address, 190, "no_capacity")]
        await world.opened("c", PROMPT)
        await world.submit("d")
        await world.send(Open("d", 1, 24))
        assert await world.replies() == [Resync("d", 1, world.address, 24, "no_capacity")]

    play(scene)


def test_malformed_messages_are_dead_lettered_and_nobody_is_hurt() -> None:
    async def scene(world: World) -> None:
        await world.start()
        await world.opened()
        inbox = KEYS.inbox(world.address)
        for data in (b"", b"\x07\x01", b"\x02garbage", wire.encode(verdict(24, (99,)))[:-3]):
            world.server.add(inbox, data)
        await world.send(Tune(3), verdict(24, (99,)))
        (draft,) = await world.replies()
        assert isinstance(draft, Draft)
        assert world.count("outrider_device_refused_total", reason="undecodable") == 4
        assert await world.broker.streams.length(KEYS.dead) == 4
        assert world.drafter.threads == 3

    play(scene)


def test_stopping_gives_the_sessions_back_and_shows_no_room() -> None:
    async def scene(world: World) -> None:
        await world.start()
        await world.opened()
        world.stop.set()
        assert await world.replies(3.0) == [Resync("s", 1, world.address, 24, "gone")]
        assert world.task.done()
        (beat,) = await world.broker.presence.alive("draft_worker")
        assert beat.capacity == 0

    play(scene)


def test_the_heartbeat_tells_speed_link_and_load() -> None:
    async def scene(world: World) -> None:
        await world.start()
        await world.opened()
        await asyncio.sleep(2)
        (beat,) = await world.broker.presence.alive("draft_worker")
        assert (beat.capacity, beat.load, beat.vocabulary) == (2, 1, f"modelled-{VOCAB}")
        assert 8000 <= beat.draft_us_per_token <= 20_000
        assert beat.rtt_us == pytest.approx(100_000, abs=2000)  # the emulated link, there and back
        assert beat.busy_us > 0

    play(scene, link_ms=50.0)


def test_the_emulated_link_delays_each_way_in_order() -> None:
    async def scene(world: World) -> None:
        await world.start()
        await world.submit()
        began = asyncio.get_running_loop().time()
        await world.send(Open("s", 1, 24), verdict(24, (99,), next_k=1), verdict(25, (98,), next_k=2))
        messages: list[Draft | Resync] = []
        while not any(isinstance(message, Draft) for message in messages):
            messages += await world.replies(0.01)
        took_s = asyncio.get_running_loop().time() - began
        assert 0.1 <= took_s <= 0.25  # there and back
        assert [type(message) for message in messages] == [Resync, Draft]
        assert messages[-1].base_len == 26

    play(scene, link_ms=50.0)


def test_the_device_waits_for_the_core() -> None:
    async def scene(world: World) -> None:
        world.launch()
        await asyncio.sleep(5)
        assert "waiting for the core" in (world.worker.not_ready_reason() or "")
        assert await world.broker.presence.alive("draft_worker") == []
        await world.broker.records.put(KEYS.deployment, DEPLOYMENT)
        await world.registered()
        assert world.worker.not_ready_reason() is None

    play(scene)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"vocabulary": "other"}, "vocabulary is not that of modelled"),
        ({"protocol": "9"}, "protocol version 9"),
    ],
)
def test_another_vocabulary_or_version_is_refused(change: dict[str, str], why: str) -> None:
    async def scene(world: World) -> None:
        world.launch()
        await world.broker.records.put(KEYS.deployment, DEPLOYMENT | change)
        await asyncio.wait([world.task], timeout=5)
        with pytest.RaisesGroup(pytest.RaisesExc(Refused, match=why)):
            await world.task
        assert await world.broker.presence.alive("draft_worker") == []

    play(scene)


@pytest.mark.parametrize("change", [{"vocabulary": "other"}, {"protocol": "3"}, {"protocol": "99"}])
def test_a_core_that_comes_back_as_another_ends_the_device(change: dict[str, str]) -> None:
    async def scene(world: World) -> None:
        await world.start()
        await world.broker.records.put(KEYS.deployment, DEPLOYMENT | change)
        await asyncio.wait([world.task], timeout=5)
        with pytest.RaisesGroup(Refused, flatten_subgroups=True):
            await world.task

    play(scene)


def test_a_newer_device_of_the_same_name_displaces_this_one() -> None:
    async def scene(world: World) -> None:
        await world.start()
        generation = await world.broker.presence.next_generation()
        await world.broker.presence.beat(Heartbeat("draft_worker", "d", generation), 4.0)
        await asyncio.wait([world.task], timeout=5)
        with pytest.RaisesGroup(Superseded, flatten_subgroups=True):
            await world.task

    play(scene)


def test_a_broker_that_lost_its_data_is_joined_anew_with_nothing_held() -> None:
    async def scene(world: World) -> None:
        await world.start()
        await world.opened()
        world.server.wipe()
        await world.broker.records.put(KEYS.deployment, DEPLOYMENT)
        await world.broker.streams.make_groups([KEYS.draft])
        old = world.address
        await world.registered()
        assert world.address != old
        assert world.drafter.sessions() == frozenset()
        await world.opened()

    play(scene)


class Absence(Direct):
    """A link on which the broker can be away."""

    away = False

    async def before(self, operation: str, sent: int) -> None:
        if self.away:
            await asyncio.sleep(0.01)
            raise BrokerAway(operation)
        await super().before(operation, sent)


class Flaky(MemoryBroker):
    """A broker that can be full or away for one process."""

    full = False

    def __init__(self, server: MemoryServer) -> None:
        self.link = Absence()
        super().__init__(server, link=self.link)
        push_many = self.streams.push_many

        async def push(stream: str, messages: Sequence[Message]) -> int:
            return 0 if self.full else await push_many(stream, messages)

        self.streams.push_many = push  # type: ignore[method-assign]


def test_a_full_stream_is_tried_again_while_the_draft_is_of_use() -> None:
    async def scene(world: World) -> None:
        broker = Flaky(world.server)
        await world.start(broker)
        await world.opened()
        broker.full = True
        await world.send(verdict(24, (99,)))
        assert await world.replies() == []
        await world.send(verdict(25, (98,), next_k=2))  # overtakes the draft that could not be sent
        assert await world.replies() == []
        broker.full = False
        (draft,) = await world.replies()
        assert (draft.base_len, world.count("outrider_device_broker_full_total") > 2) == (26, True)

    play(scene)


def test_a_short_absence_of_the_broker_only_delays() -> None:
    async def scene(world: World) -> None:
        broker = Flaky(world.server)
        await world.start(broker)
        await world.opened()
        await world.send(verdict(24, (99,)))
        broker.link.away = True
        assert await world.replies(2.0) == []
        assert world.worker.not_ready_reason() == "the broker is away"
        broker.link.away = False
        (draft,) = await world.replies()
        assert draft.base_len == 25

    play(scene)


def test_a_long_absence_frees_everything() -> None:
    async def scene(world: World) -> None:
        broker = Flaky(world.server)
        await world.start(broker)
        await world.opened()
        broker.link.away = True
        await asyncio.sleep(8)
        assert world.drafter.sessions() == frozenset()
        broker.link.away = False
        await asyncio.sleep(1)
        assert world.worker.not_ready_reason() is None
        await world.send(Open("s", 1, 24))
        assert await world.replies() == [Resync("s", 1, world.address, 24, "ready")]

    play(scene)


def test_a_session_that_ended_unheard_is_freed() -> None:
    async def scene(world: World) -> None:
        await world.start()
        await world.opened()
        await world.broker.sessions.end("s", Close("s", 1, "deadline"), "", "", "")
        assert await world.replies(15) == [Resync("s", 1, world.address, 24, "silent")]
        await world.send(Close("s", 1, ""))
        await asyncio.sleep(1)
        assert world.drafter.sessions() == frozenset()

    play(scene)


def test_spans_are_written_when_asked_for() -> None:
    async def scene(world: World) -> None:
        await world.start()
        await world.opened()
        await world.send(verdict(24, (99,)))
        await asyncio.sleep(3)
        entries = await world.broker.streams.read_inbox(KEYS.trace, "0", 64, 0)
        spans = [decode_as(Span, entry.data) for entry in entries]
        assert [span.kind for span in spans] == ["wait", "draft", "link"]
        assert all(a.end_us == b.start_us for a, b in pairwise(spans))
        assert spans[-1].end_us - spans[-1].start_us == 30_000

    play(scene, trace=True, link_ms=30)
