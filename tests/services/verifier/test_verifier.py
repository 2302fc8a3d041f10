"""The verifier's shell on the in-memory broker and a virtual clock: all outcomes of a row, and crashes."""

import asyncio

import pytest

from services.verifier.sessions import PRESSED_IDLE_S
from shared.broker.contract import BrokerAway
from shared.broker.memory_broker import MemoryBroker
from shared.broker.memory_link import Direct
from shared.compute.modelled import expected_text
from shared.compute.modelled_target import ModelledTarget
from shared.protocol import wire
from shared.protocol.limits import MAX_DELIVERIES
from shared.protocol.messages import Cancel, Close, Span, Tune, Verdict
from tests.services.verifier.verifier_bench import (
    KEYS,
    PROMPT,
    STAGED,
    VOCAB,
    Bench,
    Poison,
    on_bench,
    row,
    sampling,
)


@on_bench
async def test_a_session_from_prefill_to_its_end() -> None:
    async with Bench() as bench:
        await bench.session("a")
        (first,) = await bench.ask(row("a", 40, feed_to=32))
        assert (first.status, first.cached_len, first.length) == ("prefilled", 32, 40)
        (verdict,) = await bench.ask(row("a", 40))
        text = expected_text(PROMPT, sampling(), 20)
        log = await bench.broker.sessions.load("a")
        assert log.committed == text[:1]
        assert (verdict.length, verdict.next_k, verdict.cached_len, verdict.tokens) == (41, 4, 40, ())
        while not verdict.finish:
            length = verdict.length
            good = text[length - 40 : length - 37]
            (verdict,) = await bench.ask(row("a", length, *good, 999))
        assert verdict.finish == "length"
        assert (await bench.broker.sessions.load("a")).committed == text
        assert await bench.broker.sessions.live() == set()
        assert bench.target.sessions() == set()
        assert len(bench.verifier.sessions) == 0
        assert bench.count("accepted_tokens_total") < bench.count("drafted_tokens_total")
        assert bench.count("draft_position_total", position="0", fate="accepted") > 0


@on_bench
async def test_device_and_gateway_are_told_as_well() -> None:
    async with Bench() as bench:
        await bench.session("a", logprobs=2)
        await bench.ask(row("a", 40))
        for stream, entries in ((KEYS.inbox("d:1"), 0), (KEYS.reply("g:1"), 1)):
            (entry,) = await bench.broker.streams.read_inbox(stream, "0", 10, 1.0)
            verdict = wire.decode_as(Verdict, entry.data)
            assert verdict.tokens == expected_text(PROMPT, sampling(), 1)
            assert len(verdict.logprobs) == entries


@on_bench
async def test_a_bad_row_never_fails_its_batch() -> None:
    async with Bench() as bench:
        for name in ("good", "vocab", "ahead", "gateway"):
            await bench.session(name)
        verdicts = await bench.ask(
            row("vocab", 40, VOCAB),
            row("ahead", 41),
            row("gateway", 40, gateway="g:2"),
            row("nobody", 40),
            row("good", 40),
        )
        assert [verdict.status for verdict in verdicts] == ["ok", "error", "error", "error", "ok"]
        assert [verdicts[0].length, verdicts[-1].length] == [41, 41]
        assert bench.count("rows_not_run_total", status="error") == 3


@on_bench
async def test_the_same_session_twice_in_a_batch_runs_once() -> None:
    async with Bench() as bench:
        await bench.session("a")
        await bench.stage(row("a", 40), row("a", 40))
        verdicts = await bench.verdicts(2)
        assert sorted(verdict.status for verdict in verdicts) == ["ok", "stale"]
        assert len((await bench.broker.sessions.load("a")).committed) == 1


@on_bench
async def test_an_older_epoch_is_stale_and_a_newer_one_reads_the_log() -> None:
    async with Bench() as bench:
        await bench.session("a")
        await bench.ask(row("a", 40))
        await bench.broker.sessions.place("a", 3, "v", "d:1")
        await bench.stage(row("a", 41, epoch=1))
        await bench.settled()
        assert bench.count("outcomes_total", outcome="stale") == 1  # the commit fenced it; nobody hears of it
        (new,) = await bench.ask(row("a", 41, epoch=3))
        assert (new.status, new.length) == ("ok", 42)
        (old,) = await bench.ask(row("a", 42, epoch=1))
        assert old.status == "stale"


@on_bench
async def test_rows_behind_the_log_and_of_finished_sessions_are_answered_from_it() -> None:
    async with Bench() as bench:
        await bench.session("a", max_tokens=2)
        await bench.ask(row("a", 40))
        (again,) = await bench.ask(row("a", 40))
        assert (again.status, again.base_len, again.length, again.next_k) == ("ok", 40, 41, 4)
        await bench.ask(row("a", 41))
        (over,) = await bench.ask(row("a", 41))
        assert (over.finish, over.length, over.next_k) == ("length", 42, 0)
        assert bench.count("outcomes_total", outcome="answered") == 2
        assert bench.count("batches_total") == 4
        assert len(bench.verifier.sessions) == 0


@on_bench
async def test_a_row_that_needs_too_much_feeding_says_so() -> None:
    async with Bench(feed_tokens=16) as bench:
        for name in ("a", "b"):
            await bench.session(name, prompt=[*PROMPT[:1], *(ord(name),) * 39])
        first, second = await bench.ask(row("a", 40), row("b", 40))
        assert (first.status, first.cached_len) == ("need_prefill", 17)
        assert (second.status, second.cached_len) == ("need_prefill", 0)
        (again,) = await bench.ask(row("a", 40))
        (enough,) = await bench.ask(row("a", 40))
        assert (again.status, again.cached_len) == ("need_prefill", 34)
        assert (enough.status, enough.length) == ("ok", 41)


@on_bench
async def test_a_full_pool_lets_the_oldest_on_and_the_others_wait() -> None:
    async with Bench(ModelledTarget(VOCAB, kv_tokens=64, page_tokens=16, prefix_sharing=False)) as bench:
        for seed, name in enumerate("abc"):
            await bench.session(name, prompt=PROMPT[seed:], sampling=sampling(seed))
        statuses: dict[str, list[str]] = {name: [] for name in "abc"}
        lengths = {name: 40 - seed for seed, name in enumerate("abc")}
        done: set[str] = set()
        for _ in range(200):
            rows = [row(name, lengths[name]) for name in "abc" if name not in done]
            if not rows:
                break
            for verdict in await bench.ask(*rows):
                statuses[verdict.session].append(verdict.status)
                if verdict.status == "ok":
                    lengths[verdict.session] = verdict.length
                if verdict.finish:
                    done.add(verdict.session)
        assert done == set("abc")
        assert set(statuses["a"]) == {"ok"}
        assert "no_pages" in statuses["c"]
        for seed, name in enumerate("abc"):
            log = await bench.broker.sessions.load(name)
            assert log.committed == expected_text(PROMPT[seed:], sampling(seed), 20)


@on_bench
async def test_a_pass_that_raises_costs_only_the_row_at_fault() -> None:
    async with Bench(Poison("bad")) as bench:
        for name in ("a", "bad", "b"):
            await bench.session(name)
        verdicts = await bench.ask(row("a", 40), row("bad", 40), row("b", 40))
        assert [(verdict.status, verdict.length) for verdict in verdicts] == [
            ("ok", 41),
            ("error", 40),
            ("ok", 41),
        ]
        assert bench.target.sessions() == {"a", "b"}
        verdicts = await bench.ask(row("a", 41), row("b", 41))
        assert [verdict.length for verdict in verdicts] == [42, 42]


@on_bench
async def test_a_drafted_tree_commits_its_path_and_the_text_goes_on() -> None:
    async with Bench() as bench:
        await bench.session("a")
        text = expected_text(PROMPT, sampling(), 20)
        tree = row("a", 40, 999, text[0], 998, text[1], parents=(-1, -1, 1, 1))
        (verdict,) = await bench.ask(tree)
        assert (verdict.length, verdict.drafted, verdict.accepted) == (43, 4, 2)
        (verdict,) = await bench.ask(row("a", 43, text[3]))
        assert (verdict.length, verdict.accepted) == (45, 1)
        assert (await bench.broker.sessions.load("a")).committed == text[:5]


@on_bench
async def test_a_prefix_that_another_session_has_is_not_fed_again() -> None:
    async with Bench() as bench:
        for name in "ab":
            await bench.session(name)
        await bench.ask(row("a", 40))
        fed = bench.count("fed_tokens_total")
        await bench.ask(row("b", 40))
        assert bench.count("fed_tokens_total") - fed == 40 - 32
        assert (await bench.broker.sessions.load("b")).committed == expected_text(PROMPT, sampling(), 1)


class Killed(BaseException):
    """The process is gone."""


@on_bench
async def test_a_row_that_kills_is_found_and_its_session_told() -> None:
    bench = Bench(Poison("bad", Killed))
    for name in ("a", "bad"):
        await bench.session(name)
    await bench.stage(row("a", 40), row("bad", 40))
    deaths = 0
    while await bench.broker.streams.length(STAGED):
        try:
            await asyncio.wait_for(asyncio.shield(bench.task), 1.0)
        except TimeoutError:
            continue
        except (Killed, BaseExceptionGroup):
            deaths += 1
            bench.target = Poison("bad", Killed)
            bench.start()
    verdicts = {verdict.session: verdict for verdict in await bench.verdicts(2)}
    assert (verdicts["a"].status, verdicts["bad"].status) == ("ok", "error")
    assert deaths == 2 * MAX_DELIVERIES - 1
    assert await bench.broker.streams.length(KEYS.dead) == 1
    await bench.__aexit__()


@on_bench
async def test_rows_of_a_split_batch_that_the_stream_cannot_take_are_refused() -> None:
    """The verifier waited for ever for room in the stream that it alone reads (fault seeds 4667 and 6046)."""
    bench = Bench(Poison("bad", Killed))
    bench.own = MemoryBroker(bench.server, stream_limit=2)
    for name in ("a", "bad", "c"):
        await bench.session(name)
    await bench.stage(row("a", 40), row("bad", 40), row("c", 40))
    while await bench.broker.streams.length(STAGED):
        try:
            await asyncio.wait_for(asyncio.shield(bench.task), 1.0)
        except TimeoutError:
            continue
        except (Killed, BaseExceptionGroup):
            bench.target = Poison("bad", Killed)
            bench.start()
    verdicts = {verdict.session: verdict.status for verdict in await bench.verdicts(3)}
    assert verdicts == {"a": "ok", "bad": "no_pages", "c": "no_pages"}
    await bench.__aexit__()


@on_bench
async def test_pages_of_a_session_whose_close_was_lost_are_freed_soon_when_others_wait() -> None:
    """They were kept for a minute (fault seeds 3407 and 6692)."""
    async with Bench(ModelledTarget(VOCAB, kv_tokens=64, page_tokens=16, prefix_sharing=False)) as bench:
        for name in "ab":
            await bench.session(name)
        await bench.ask(row("a", 40))
        await bench.broker.sessions.end("a", Close("a", 1, "cancel"), "", "", "")
        waited = 0.0
        while (verdict := (await bench.ask(row("b", 40)))[0]).status == "no_pages":
            await asyncio.sleep(0.1)
            waited += 0.1
        assert verdict.status == "ok"
        assert PRESSED_IDLE_S - 1.0 < waited < 2 * PRESSED_IDLE_S


@on_bench
async def test_a_restarted_verifier_takes_up_its_pending_batch_and_rebuilds_from_the_log() -> None:
    bench = Bench()
    await bench.session("a")
    await bench.ask(row("a", 40))
    bench.task.cancel()
    await asyncio.gather(bench.task, return_exceptions=True)
    await bench.stage(row("a", 41, 7))
    (entry,) = await bench.broker.streams.read_group([STAGED], "v", 10, 1.0)
    bench.target = ModelledTarget(VOCAB)
    bench.start()
    (verdict,) = await bench.verdicts(1)
    assert (verdict.status, verdict.length) == ("ok", 42)
    assert (await bench.broker.sessions.load("a")).committed == expected_text(PROMPT, sampling(), 2)
    assert await bench.broker.streams.length(STAGED) == 0
    assert entry.deliveries == 1
    await bench.__aexit__()


class LosesAnswers(Direct):
    """A link on which commits take effect, but the answer to the first one is lost."""

    lost = 0

    async def after(self, operation: str, received: int) -> None:
        if operation == "commit" and not self.lost:
            self.lost += 1
            raise BrokerAway("answer lost")


@on_bench
async def test_a_commit_whose_answer_was_lost_is_repeated_and_the_cache_stays() -> None:
    bench = Bench()
    bench.stop.set()
    await bench.task
    bench.stop, bench.own = asyncio.Event(), MemoryBroker(bench.server, link=LosesAnswers())
    bench.start()
    await bench.session("a")
    await bench.stage(row("a", 40))
    first, second = await bench.verdicts(2)
    assert (first.length, second.length) == (41, 41)
    fed = bench.count("fed_tokens_total")
    (verdict,) = await bench.ask(row("a", 41))
    assert verdict.length == 42
    assert bench.count("fed_tokens_total") == fed + 1
    assert (await bench.broker.sessions.load("a")).committed == expected_text(PROMPT, sampling(), 2)
    await bench.__aexit__()


@on_bench
async def test_close_frees_unless_the_session_came_back() -> None:
    async with Bench() as bench:
        await bench.session("a")
        await bench.ask(row("a", 40))
        await bench.broker.streams.push(STAGED, Close("a", 0, ""))
        await bench.settled()
        assert bench.target.sessions() == {"a"}
        await bench.broker.streams.push(STAGED, Close("a", 1, "cancel"))
        await bench.settled()
        assert bench.target.sessions() == set()
        assert len(bench.verifier.sessions) == 0


@on_bench
async def test_a_close_that_was_lost_is_made_up_for() -> None:
    async with Bench() as bench:
        for name in ("ended", "idle"):
            await bench.session(name, deadline_ms=600_000)
            await bench.ask(row(name, 40))
        await bench.broker.sessions.end("ended", Close("ended", 1, "cancel"), "", "", "")
        await asyncio.sleep(100)
        assert bench.target.sessions() == {"idle"}


@on_bench
async def test_refused_messages_are_counted_and_hurt_nobody() -> None:
    async with Bench() as bench:
        await bench.session("a")
        await bench.broker.streams.push(STAGED, Cancel("a"))
        await bench.ask(row("a", 40))
        await bench.stage(row("a", 41), term=5)
        await bench.stage(row("a", 42), term=4)
        await bench.settled()
        assert (await bench.broker.sessions.head("a")).committed == 2
        assert bench.count("refused_messages_total", reason="unexpected") == 1
        assert bench.count("refused_messages_total", reason="term") == 1
        assert await bench.broker.streams.length(KEYS.dead) == 1


@on_bench
async def test_threads_are_set_and_spans_written() -> None:
    async with Bench(trace=True) as bench:
        await bench.broker.streams.push(STAGED, Tune(3))
        await bench.session("a")
        (verdict,) = await bench.ask(row("a", 40))
        assert bench.target.threads == 3
        assert verdict.verify_us == pytest.approx(60_000, abs=10)
        await asyncio.sleep(0.1)
        entries = await bench.broker.streams.read_inbox(KEYS.trace, "0", 10, 1.0)
        kinds = [wire.decode_as(Span, entry.data).kind for entry in entries]
        assert kinds == ["idle", "verify"]


@on_bench
async def test_stop_finishes_the_batch_under_way() -> None:
    async with Bench() as bench:
        await bench.session("a")
        await bench.stage(row("a", 40))
        await asyncio.sleep(0.03)
        bench.stop.set()
        await bench.task
        assert (await bench.broker.sessions.head("a")).committed == 1
        assert (
            await bench.broker.presence.alive("verifier") == []
        )  # at once, and not when the heartbeat has lapsed
