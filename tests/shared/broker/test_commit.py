"""Commit on every broker: each outcome, and the copies of each verdict."""

import math
from dataclasses import replace
from typing import Any

import pytest

from shared.broker.contract import CommitOutcome, CommitRow
from shared.protocol import limits, wire
from shared.protocol.messages import (
    StagedBatch,
    TokenLogprobs,
)
from tests.shared.broker.logs import DEVICE, PROMPT, Receivers, bare, open_session, row
from tests.shared.broker.worlds import World

LOGPROBS: tuple[TokenLogprobs, ...] = (
    (-1.0, (3, 70_000), (-0.0, -1.25)),
    (-math.inf, (), ()),
    (0.0, (2**24 - 1,), (-math.inf,)),
)


async def test_commit_appends_and_sends_each_receiver_its_copy(world: World, receivers: Receivers) -> None:
    await open_session(world.broker)
    committed = row(4, 10, 2**24 - 1, 12, logprobs=LOGPROBS, queue_us=3_600_000_000, message="é")
    assert await world.broker.sessions.commit("v", "", [committed]) == [CommitOutcome("committed", 7)]
    log = await world.broker.sessions.load("s1")
    assert (log.committed, log.logprobs, log.head.finish) == ((10, 2**24 - 1, 12), LOGPROBS, "")
    assert log.ids == (*PROMPT, 10, 2**24 - 1, 12)
    device, gateway, scheduler = await receivers.all()
    assert gateway == [committed.verdict]
    assert device == [replace(committed.verdict, logprobs=())]
    assert scheduler == [bare(committed.verdict)]
    for key in (world.keys.session_ids("s1"), world.keys.session_logprobs("s1")):
        if await world.ttl(key) != -2:  # the memory broker keeps one object
            assert abs(await world.ttl(key) - await world.ttl(world.keys.session("s1"))) < 0.1


# --- devices that do not draft ----------------------------------------------------------------------------------
EVERY = limits.BLOCK_TOKENS


def idle(base_len: int, *tokens: int, **fields: Any) -> CommitRow:
    """A row after which the device does not draft."""
    return row(base_len, *tokens, **{"next_k": 0, "drafted": 0, "accepted": 0, **fields})


async def test_a_device_that_does_not_draft_gets_blocks_of_tokens(world: World, receivers: Receivers) -> None:
    await open_session(world.broker)
    for at in range(len(PROMPT), EVERY):
        await world.broker.sessions.commit("v", "", [idle(at, 100 + at, logprobs=LOGPROBS[:1])])
    device, gateway, scheduler = await receivers.all()
    assert len(gateway) == len(scheduler) == EVERY - len(PROMPT)
    (sent,) = device
    assert (sent.base_len, sent.length) == (len(PROMPT), EVERY)
    assert sent.tokens == tuple(100 + at for at in range(len(PROMPT), EVERY))
    assert sent.logprobs == ()


async def test_a_device_that_drafts_again_gets_all_tokens_it_lacks(
    world: World, receivers: Receivers
) -> None:
    await open_session(world.broker)
    await world.broker.sessions.commit("v", "", [idle(4, 10)])
    await world.broker.sessions.commit("v", "", [idle(5, 11)])
    await world.broker.sessions.commit("v", "", [row(6, 12, next_k=3)])
    await world.broker.sessions.commit("v", "", [row(7, 13, 14, next_k=3)])
    device, _, scheduler = await receivers.all()
    assert [(sent.base_len, sent.tokens, sent.next_k) for sent in device] == [
        (4, (10, 11, 12), 3),
        (7, (13, 14), 3),
    ]
    assert [sent.base_len for sent in scheduler] == [
        4,
        5,
        6,
        7,
    ]  # that of its row, whatever the device gets


async def test_a_device_that_grows_a_tree_gets_every_step_at_once(world: World, receivers: Receivers) -> None:
    """With the tokens that it lacks; and with a session that is kept without its help it gets them in blocks."""
    await open_session(world.broker)
    await world.broker.sessions.commit("v", "", [idle(4, 10)])
    await world.broker.sessions.commit("v", "", [idle(5, 11, keeps=True, tree=6)])
    await world.broker.sessions.commit("v", "", [idle(6, 12, 13, keeps=True, tree=6)])
    await world.broker.sessions.commit("v", "", [idle(8, 14, keeps=True)])
    device, gateway, scheduler = await receivers.all()
    assert [(sent.base_len, sent.tokens, sent.tree, sent.keeps) for sent in device] == [
        (4, (10, 11), 6, True),
        (6, (12, 13), 6, True),
    ]
    for copies in (gateway, scheduler):
        assert [(sent.base_len, sent.tree, sent.keeps) for sent in copies] == [
            (4, 0, False),
            (5, 6, True),
            (6, 6, True),
            (8, 0, True),
        ]


async def test_an_answer_from_the_log_does_not_say_that_the_session_is_kept(
    world: World, receivers: Receivers
) -> None:
    await open_session(world.broker)
    step = idle(4, 10, keeps=True, tree=5)
    assert await world.broker.sessions.commit("v", "", [step]) == [CommitOutcome("committed", 5)]
    await receivers.all()
    assert await world.broker.sessions.commit("v", "", [step]) == [CommitOutcome("answered", 5)]
    device, gateway, (message,) = await receivers.all()
    assert (message.base_len, message.length, message.keeps, message.tree) == (4, 5, False, 0)
    assert [(sent.tokens, sent.keeps, sent.tree) for sent in gateway] == [((10,), False, 0)]
    assert device == []  # it drafts nothing next


async def test_a_device_gets_the_finish_at_once(world: World, receivers: Receivers) -> None:
    await open_session(world.broker)
    await world.broker.sessions.commit("v", "", [idle(4, 10)])
    await world.broker.sessions.commit("v", "", [idle(5, 11, finish="stop")])
    (sent,), _, _ = await receivers.all()
    assert (sent.finish, sent.base_len, sent.tokens, sent.length) == ("stop", 4, (10, 11), 6)


async def test_an_answer_from_the_log_has_the_tokens_that_the_device_lacks(
    world: World, receivers: Receivers
) -> None:
    await open_session(world.broker)
    for at in range(4, 8):
        await world.broker.sessions.commit("v", "", [idle(at, at)])
    assert await world.broker.sessions.commit("v", "", [row(6, 99, next_k=2)]) == [
        CommitOutcome("answered", 8)
    ]
    (sent,), _, _ = await receivers.all()
    assert (sent.base_len, sent.tokens, sent.length) == (4, (4, 5, 6, 7), 8)


async def test_a_device_far_behind_reads_the_log(world: World, receivers: Receivers) -> None:
    """After a long time without drafts the device has had no verdicts; it reads the log before it drafts."""
    await open_session(world.broker)
    await world.broker.sessions.commit("v", "", [idle(4, 10)])
    alone = [replace(idle(at, at), device="") for at in range(5, 4 + 3 * EVERY)]
    for committed in alone:
        await world.broker.sessions.commit("v", "", [committed])
    await world.broker.sessions.commit("v", "", [row(4 + 3 * EVERY, 12, next_k=3)])
    (sent,), _, _ = await receivers.all()
    assert (sent.base_len, sent.tokens) == (4 + 3 * EVERY, (12,))


# --- repeats ----------------------------------------------------------------------------------------------
async def test_a_repeated_commit_is_answered_from_the_log(world: World, receivers: Receivers) -> None:
    await open_session(world.broker)
    first, second = row(4, 10, 11, 12, logprobs=LOGPROBS), row(7, 13, logprobs=LOGPROBS[:1])
    await world.broker.sessions.commit("v", "", [first])
    await world.broker.sessions.commit("v", "", [second])
    await receivers.all()
    again = replace(first, verdict=replace(first.verdict, tokens=(99,), length=5, logprobs=LOGPROBS[:1]))
    assert await world.broker.sessions.commit("v", "", [again]) == [CommitOutcome("answered", 8)]
    answer = replace(
        first.verdict,
        tokens=(10, 11, 12, 13),
        length=8,
        logprobs=(*LOGPROBS, LOGPROBS[0]),
        drafted=0,
        accepted=0,
        fused_drafted=0,
        fused_accepted=0,
    )
    device, gateway, scheduler = await receivers.all()
    assert gateway == [answer]
    assert device == [replace(answer, logprobs=())]
    assert scheduler == [bare(answer)]
    assert (await world.broker.sessions.load("s1")).committed == (10, 11, 12, 13)
    assert await world.broker.sessions.commit("v", "", [row(6, 99)]) == [CommitOutcome("answered", 8)]
    (tail,) = await receivers.received("gateway")
    assert (tail.base_len, tail.tokens, tail.logprobs) == (6, (12, 13), (LOGPROBS[2], LOGPROBS[0]))


async def test_answer_to_a_row_inside_the_prompt_begins_behind_it(world: World, receivers: Receivers) -> None:
    await open_session(world.broker)
    await world.broker.sessions.commit("v", "", [row(4, 10)])
    await receivers.all()
    assert await world.broker.sessions.commit("v", "", [row(1, 99)]) == [CommitOutcome("answered", 5)]
    (answer,) = await receivers.received("gateway")
    assert (answer.base_len, answer.tokens, answer.length) == (4, (10,), 5)


async def test_a_finished_session_is_answered_with_its_finish(world: World, receivers: Receivers) -> None:
    await open_session(world.broker)
    assert await world.broker.sessions.commit("v", "", [row(4, 10, 2, finish="stop")]) == [
        CommitOutcome("committed", 6)
    ]
    assert await world.broker.sessions.live() == set()
    assert (await world.broker.sessions.head("s1")).finish == "stop"
    assert await world.ttl(world.keys.session("s1")) <= limits.LOG_KEPT_S
    device, gateway, scheduler = await receivers.all()
    assert [heard[0].finish for heard in (device, gateway, scheduler)] == ["stop"] * 3
    assert (
        await world.broker.sessions.commit("v", "", [row(6, 99), row(4, 98)])
        == [CommitOutcome("answered", 6)] * 2
    )
    device, gateway, scheduler = await receivers.all()
    assert [(v.base_len, v.tokens, v.length, v.finish, v.next_k) for v in gateway] == [
        (6, (), 6, "stop", 0),
        (4, (10, 2), 6, "stop", 0),
    ]
    assert len(device) == len(scheduler) == 2
    assert (await world.broker.sessions.load("s1")).committed == (10, 2)


async def test_an_older_epoch_is_dropped(world: World, receivers: Receivers) -> None:
    await open_session(world.broker)
    await world.broker.sessions.place("s1", 2, "w", DEVICE)
    assert await world.broker.sessions.commit("v", "", [row(4, 10, epoch=1)]) == [CommitOutcome("stale", 4)]
    assert await receivers.all() == ([], [], [])
    assert (await world.broker.sessions.head("s1")).committed == 0
    assert await world.broker.sessions.commit("w", "", [row(4, 10, epoch=2)]) == [
        CommitOutcome("committed", 5)
    ]


@pytest.mark.parametrize(("base_len", "epoch"), [(5, 0), (4, 1), (limits.MAX_POSITION - 1, 7)])
async def test_a_row_ahead_of_the_log_is_an_error_for_the_scheduler(
    world: World, receivers: Receivers, base_len: int, epoch: int
) -> None:
    await open_session(world.broker)
    ahead = row(base_len, 10, epoch=epoch, finish="stop", logprobs=LOGPROBS[:1])
    assert await world.broker.sessions.commit("v", "", [ahead]) == [CommitOutcome("ahead", 4)]
    device, gateway, (sent,) = await receivers.all()
    assert (device, gateway) == ([], [])
    assert (sent.status, sent.length, sent.finish, sent.tokens, sent.logprobs) == ("error", 4, "", (), ())
    assert sent.message == f"row of epoch {epoch} after {base_len} tokens; the log has epoch 0 and 4 tokens"
    assert await world.broker.sessions.live() == {"s1"}


async def test_an_unknown_session_is_dropped(world: World, receivers: Receivers) -> None:
    assert await world.broker.sessions.commit("v", "", [row(4, 10)]) == [CommitOutcome("unknown", 0)]
    assert await receivers.all() == ([], [], [])


@pytest.mark.parametrize("status", ["prefilled", "need_prefill", "no_pages", "stale", "error"])
async def test_rows_that_were_not_run_go_to_the_scheduler_alone(
    world: World, receivers: Receivers, status: Any
) -> None:
    await open_session(world.broker)
    refused = row(4, status=status, cached_len=3, message="why")
    unknown = row(9, session="s9", status=status)
    outcomes = await world.broker.sessions.commit("v", "", [refused, unknown])
    assert outcomes == [CommitOutcome("told", 4), CommitOutcome("told", 0)]
    assert await receivers.all() == ([], [], [refused.verdict, unknown.verdict])
    assert (await world.broker.sessions.head("s1")).committed == 0


async def test_a_batch_is_answered_row_by_row_and_acknowledged(world: World, receivers: Receivers) -> None:
    broker, keys = world.broker, world.keys
    for session in ("s1", "s2", "s3"):
        await open_session(broker, session)
    await broker.sessions.commit("v", "", [row(4, 10, session="s2")])
    await broker.sessions.place("s3", 5, "v", DEVICE)
    await receivers.all()
    await broker.streams.make_groups([keys.staged("v")])
    await broker.streams.push(keys.staged("v"), StagedBatch(1, 17, ()))
    (entry,) = await broker.streams.read_group([keys.staged("v")], "v", 1, 0)
    rows = [
        row(4, 20, 21),
        row(4, 99, session="s2"),
        row(4, 99, session="s3"),
        row(6, 22),  # the same session again, behind its first row
        row(4, 99, session="s9"),
        row(77, 99, session="s2"),
        row(5, session="s2", status="no_pages"),
    ]
    outcomes = await broker.sessions.commit("v", entry.id, rows)
    names = ["committed", "answered", "stale", "committed", "unknown", "ahead", "told"]
    assert [outcome.outcome for outcome in outcomes] == names
    assert [outcome.length for outcome in outcomes] == [6, 5, 4, 7, 0, 5, 5]
    device, gateway, scheduler = await receivers.all()
    assert [(v.session, v.base_len, v.tokens) for v in gateway] == [
        ("s1", 4, (20, 21)),
        ("s2", 4, (10,)),
        ("s1", 6, (22,)),
    ]
    assert device == gateway
    assert [v.status for v in scheduler] == ["ok", "ok", "ok", "error", "no_pages"]
    assert await broker.streams.length(keys.staged("v")) == 0
    assert await broker.streams.read_pending([keys.staged("v")], "v", 9) == []


async def test_a_commit_repeated_whole_after_a_lost_answer(world: World, receivers: Receivers) -> None:
    broker, keys = world.broker, world.keys
    await open_session(broker)
    await broker.streams.make_groups([keys.staged("v")])
    await broker.streams.push(keys.staged("v"), StagedBatch(1, 17, ()))
    (entry,) = await broker.streams.read_group([keys.staged("v")], "v", 1, 0)
    rows = [row(4, 20, 21)]
    assert [outcome.outcome for outcome in await broker.sessions.commit("v", entry.id, rows)] == ["committed"]
    assert [outcome.outcome for outcome in await broker.sessions.commit("v", entry.id, rows)] == ["answered"]
    assert [v.tokens for v in await receivers.received("gateway")] == [(20, 21), (20, 21)]
    assert (await broker.sessions.load("s1")).committed == (20, 21)


async def test_commit_without_receivers(world: World, receivers: Receivers) -> None:
    await open_session(world.broker)
    await world.broker.sessions.commit("v", "", [row(4, 10, device="", gateway="")])
    await world.broker.sessions.commit("v", "", [row(5, 11, device="")])
    device, gateway, scheduler = await receivers.all()
    assert device == []
    assert [v.tokens for v in gateway] == [(11,)]
    assert len(scheduler) == 2
    assert await world.broker.sessions.commit("v", "", []) == []


async def test_a_commit_without_tokens_may_finish(world: World, receivers: Receivers) -> None:
    await open_session(world.broker)
    assert await world.broker.sessions.commit("v", "", [row(4, finish="length")]) == [
        CommitOutcome("committed", 4)
    ]
    assert (await world.broker.sessions.head("s1")).finish == "length"


async def test_a_batch_with_a_row_that_is_no_message_does_nothing(world: World, receivers: Receivers) -> None:
    broker, keys = world.broker, world.keys
    await open_session(broker)
    await broker.streams.make_groups([keys.staged("v")])
    await broker.streams.push(keys.staged("v"), StagedBatch(1, 17, ()))
    (entry,) = await broker.streams.read_group([keys.staged("v")], "v", 1, 0)
    large = row(4, status="error", message="x" * limits.MAX_MESSAGE_BYTES)
    for bad, error in (
        (large, wire.WireError),
        (row(4, 10, length=9), ValueError),
        (row(4, 10, 11, logprobs=LOGPROBS[:1]), ValueError),
    ):
        with pytest.raises(error):
            await broker.sessions.commit("v", entry.id, [row(4, 10), bad])
    assert (await broker.sessions.head("s1")).committed == 0
    assert await receivers.all() == ([], [], [])
    assert len(await broker.streams.read_pending([keys.staged("v")], "v", 9)) == 1


async def test_an_answer_too_large_for_a_message_is_a_gap(world: World, receivers: Receivers) -> None:
    await open_session(world.broker, max_tokens=100_000)
    entry: TokenLogprobs = (-0.1, tuple(range(70_000, 70_020)), (-0.1,) * 20)
    base_len = 4
    for _ in range(5):
        tokens = tuple(range(1000))
        large = row(base_len, *tokens, logprobs=(entry,) * 1000, device="", gateway="")
        assert (await world.broker.sessions.commit("v", "", [large]))[0].outcome == "committed"
        base_len += 1000
    await receivers.all()
    assert await world.broker.sessions.commit("v", "", [row(4, 1)]) == [CommitOutcome("answered", 5004)]
    device, gateway, _ = await receivers.all()
    assert [(v.base_len, v.tokens, v.length, v.logprobs) for v in gateway] == [(5004, (), 5004, ())]
    assert device == gateway
    log = await world.broker.sessions.load("s1")
    assert log.committed == tuple(range(1000)) * 5
    assert log.logprobs == (entry,) * 5000


async def test_logprobs_that_begin_late_expire_with_their_session(world: World) -> None:
    """The fixture fails when a key never expires."""
    await open_session(world.broker)
    await world.broker.sessions.commit("v", "", [row(4, 10)])
    await world.broker.sessions.commit("v", "", [row(5, 11, logprobs=((-1.5, (), ()),))])
    assert len((await world.broker.sessions.load("s1")).logprobs) == 1


async def test_logprobs_that_are_no_number_survive(world: World, receivers: Receivers) -> None:
    await open_session(world.broker)
    await world.broker.sessions.commit("v", "", [row(4, 10, logprobs=((math.nan, (1,), (math.nan,)),))])
    await world.broker.sessions.commit("v", "", [row(4, 99)])
    for verdict in await receivers.received("gateway"):
        ((own, ids, values),) = verdict.logprobs
        assert math.isnan(own)
        assert ids == (1,)
        assert math.isnan(values[0])
