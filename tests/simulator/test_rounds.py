"""One user without a queue: a round takes the sum of its parts, to the microsecond, and TPOT follows from it.

A round is the time from one verdict at the client to the next:

    verdict      commit to the broker, broker to the device                    2 hops
    link         to the device                                                 1 link
    draft        k decodes; the first takes `feed` of a decode longer after a draft of which all was accepted,
                 because two tokens follow it: the last guess, which was never fed, and the bonus
    link         from the device                                               1 link
    draft        device to the broker, broker to the scheduler                 2 hops
    batch        scheduler to the broker, broker to the verifier               2 hops
    pass         one row of k + 1 tokens                                       1 pass

The gateway reads the verdict one hop after its commit, round after round, so that hop cancels out.
"""

import asyncio
from itertools import pairwise
from math import sqrt
from typing import Any

import pytest

from loadgen.request import Record
from loadgen.run.drive import LEAD_S
from services.scheduler.scheduler import Scheduler
from shared.broker.memory_broker import MemoryBroker
from shared.protocol.keys import Keys
from shared.protocol.messages import Control
from simulator.scenario import SimulatedScenario
from simulator.stack import SimulatedStack
from tests.simulator.runs import run, scenario
from tests.simulator.whole_run import play

K = 3
ALPHA = 0.8
DRAFT_MS, FEED, LINK_MS = 5.0, 0.2, 20.0
PASS_MS = {"beta_ms": 30.0, "per_token_ms": 2.0, "per_context_ms": 0.0}
PROMPT = 16
TTFT_HOPS = 16
MICROSECOND = 1e-3  # in ms


def one_user(
    policy: str = "fixed-k",
    k: int = K,
    hop_ms: float = 0.0,
    alpha: float = ALPHA,
    answer: int = 600,
    **link: Any,
) -> Record:
    """The only request of a run."""
    (record,) = run(alone(hop_ms, alpha, answer, **link), policy, k).records
    return record


def alone(hop_ms: float = 0.0, alpha: float = ALPHA, answer: int = 600, **link: Any) -> SimulatedScenario:
    """A scenario of one request."""
    return scenario(
        core={
            "hop": f"{hop_ms} ms",
            "server": {"law": "packed", **PASS_MS, "memory_bytes": 8e9, "kv_bytes_per_token": 1.0},
        },
        devices=[{"alpha": alpha, "draft": f"{DRAFT_MS} ms", "link": {"delay": f"{LINK_MS} ms", **link}}],
        feed=FEED,
        load={"requests": 1, "prompt-tokens": PROMPT, "answer-tokens": answer},
    )


def drafted_rounds(record: Record) -> list[tuple[float, int, bool]]:
    """Of every round whose draft has k tokens: its ms, accepted tokens, and whether the one before accepted all."""
    rounds = list(pairwise(record.chunks))[:-2]  # drafts at the end are cut to what the answer may still have
    return [(1e3 * (now.at - before.at), now.accepted, before.accepted == K) for before, now in rounds]


def round_ms(hop_ms: float, k: int, fed_two: bool) -> float:
    pass_ms = PASS_MS["beta_ms"] + PASS_MS["per_token_ms"] * (k + 1)
    return 6 * hop_ms + 2 * LINK_MS + DRAFT_MS * (k + FEED * fed_two) + pass_ms


@pytest.mark.parametrize("hop_ms", [0.0, 0.25, 2.0])
def test_a_round_is_the_sum_of_its_parts(hop_ms: float) -> None:
    rounds = drafted_rounds(one_user(hop_ms=hop_ms))
    assert len(rounds) > 150
    assert {fed_two for _, _, fed_two in rounds} == {False, True}
    for took_ms, _, fed_two in rounds:
        assert took_ms == pytest.approx(round_ms(hop_ms, K, fed_two), abs=MICROSECOND)


@pytest.mark.parametrize("hop_ms", [0.0, 2.0])
def test_the_first_token_is_the_sum_of_its_parts(hop_ms: float) -> None:
    """Submit 2 hops, the fleet 4, placing 2, Open 2, the batch 2, the session's log 2, the verdict 2, and the pass."""
    record = one_user(hop_ms=hop_ms, answer=2)
    pass_ms = PASS_MS["beta_ms"] + PASS_MS["per_token_ms"] * PROMPT
    took_ms = 1e3 * (record.chunks[0].at - record.scheduled)
    assert took_ms == pytest.approx(TTFT_HOPS * hop_ms + pass_ms, abs=MICROSECOND)


def test_between_passes_of_a_busy_verifier_lie_two_hops() -> None:
    """It commits and is answered; meanwhile the next batch has come. Three users in turn keep it busy."""
    what = alone(hop_ms=2.0, answer=40)
    load = {"concurrency": 3, "requests": 3, "prompt-tokens": PROMPT, "answer-tokens": 40}
    records = run(what.model_copy(update={"load": load}), "autoregressive").records
    passes = sorted(chunk.at for record in records for chunk in record.chunks)[6:]
    pass_ms = PASS_MS["beta_ms"] + PASS_MS["per_token_ms"]
    for before, now in list(pairwise(passes))[: -2 * len(records)]:
        assert 1e3 * (now - before) == pytest.approx(pass_ms + 2 * 2.0, abs=MICROSECOND)


@pytest.mark.slow
def test_tpot_is_round_time_over_expected_tokens() -> None:
    """E[tokens] = (1 - alpha^(k+1)) / (1 - alpha); rounds are independent, so its interval is Student's."""
    record = one_user(answer=1800)
    rounds = drafted_rounds(record)
    tokens = [accepted + 1 for _, accepted, _ in rounds]
    mean = sum(tokens) / len(tokens)
    spread = sqrt(sum((one - mean) ** 2 for one in tokens) / (len(tokens) - 1))
    expected = (1 - ALPHA ** (K + 1)) / (1 - ALPHA)
    assert abs(mean - expected) < 2.6 * spread / sqrt(len(tokens)) < 0.15
    all_accepted = sum(fed_two for _, _, fed_two in rounds) / len(rounds)
    tpot_ms = sum(took_ms for took_ms, _, _ in rounds) / sum(tokens)
    expected_round_ms = round_ms(0.0, K, False) + all_accepted * FEED * DRAFT_MS
    assert tpot_ms == pytest.approx(expected_round_ms / mean, abs=MICROSECOND)
    assert tpot_ms == pytest.approx(
        (round_ms(0.0, K, False) + ALPHA**K * FEED * DRAFT_MS) / expected, rel=0.03
    )


def test_verification_is_not_costed_as_decoding() -> None:
    """A row of eight drafted tokens costs eight tokens more than the target's own step."""
    steps = [
        one_user(policy, k, alpha=0.0, answer=40).chunks
        for policy, k in (("greedy-batch", 0), ("fixed-k", 8))
    ]
    plain_ms, verified_ms = (1e3 * (chunks[10].at - chunks[9].at) for chunks in steps)
    assert plain_ms == pytest.approx(PASS_MS["beta_ms"] + PASS_MS["per_token_ms"], abs=MICROSECOND)
    assert verified_ms - plain_ms == pytest.approx(
        8 * PASS_MS["per_token_ms"] + 8 * DRAFT_MS + 2 * LINK_MS, abs=MICROSECOND
    )


def test_rejected_tokens_are_no_progress() -> None:
    """Where every draft is wrong, a round emits the corrected token, no more."""
    record = one_user(alpha=0.0, answer=40)
    assert {len(chunk.tokens) for chunk in record.chunks} == {1}
    assert record.accepted_tokens == 0 < record.drafted_tokens


def test_an_accepted_draft_is_followed_by_a_bonus_token() -> None:
    """Where every draft is right, a round emits k + 1 tokens."""
    record = one_user(alpha=0.999999, answer=1 + 10 * (K + 1))
    assert [len(chunk.tokens) for chunk in record.chunks] == [1] + 10 * [K + 1]


@pytest.mark.slow
def test_configured_loss_is_paid() -> None:
    """A lost message comes 0.2 s later, twice as late again for every further loss, up to six."""
    loss = 0.1
    lossless, lossy = (sum(took for took, _, _ in drafted_rounds(one_user(loss=loss))) for loss in (0, loss))
    rounds = len(drafted_rounds(one_user()))
    per_message_ms = sum(200 * 2**n * loss ** (n + 1) for n in range(6))
    assert (lossy - lossless) / (2 * rounds) == pytest.approx(per_message_ms, rel=0.3)


def test_configured_bandwidth_is_paid() -> None:
    """A slower line delays every round by its bytes: those of a verdict and of a draft, some hundred each."""
    slow, fast = (drafted_rounds(one_user(bandwidth=width))[5][0] for width in ("16 kbit", "1000000 kbit"))
    assert 20.0 < slow - fast < 200.0


def test_another_k_applies_within_a_session() -> None:
    """A window is no property of a conversation: a new k holds from the round after the next."""

    async def change(stack: SimulatedStack) -> None:
        await asyncio.sleep(3.0)
        await MemoryBroker(stack.server).streams.push(Keys().submit, Control("fixed-k", 8))

    run = play(alone(alpha=0.95), "fixed-k", K, change)
    (record,) = run.records
    changed = run.state.started - LEAD_S + 3.0
    before = [chunk.accepted for chunk in record.chunks if chunk.at < changed]
    after = [chunk.accepted for chunk in record.chunks if chunk.at > changed]
    assert max(before) == K >= after[0]
    assert max(after[2:]) == 8


def test_a_devices_delay_is_the_links_without_drafts_and_passes() -> None:
    """A round takes 105 ms and more, of which the link and the hops on it take 44."""
    seen: dict[str, float] = {}

    async def look(stack: SimulatedStack) -> None:
        await asyncio.sleep(8.0)
        (scheduler,) = (scheduler for scheduler, _ in stack.living(Scheduler))
        assert scheduler.core is not None
        (estimate,) = scheduler.core.devices().values()
        (beat,) = await MemoryBroker(stack.server).presence.alive("draft_worker")
        seen.update(learnt_ms=1e3 * estimate.link_s.value, reported_ms=beat.rtt_us / 1e3)

    play(alone(hop_ms=2.0), "fixed-k", K, look)
    assert seen["reported_ms"] == pytest.approx(2 * LINK_MS + 2 * 2.0, abs=MICROSECOND)
    # The scheduler counts from the verdict's arrival, which is the device's as well: a hop after the commit.
    assert seen["learnt_ms"] == pytest.approx(2 * LINK_MS + 2 * 2.0, abs=MICROSECOND)
