"""Nothing is lost and nothing comes from nowhere: requests, tokens, drafts and caches, also when processes die."""

from itertools import pairwise
from typing import Any

import pytest

from simulator.scenario import SimulatedScenario
from tests.simulator.runs import scenario
from tests.simulator.whole_run import WholeRun, play

REQUESTS = 20


def loaded(**fields: Any) -> SimulatedScenario:
    """Requests within some ten seconds on two verifiers and six unequal devices."""
    usual: dict[str, Any] = {
        "core": {"verifiers": 2, "gateways": 2},
        "devices": [
            {
                "count": 6,
                "alpha": "0.5..0.9",
                "draft": "4..9 ms",
                "link": {"delay": "5..20 ms", "jitter": "3 ms"},
            }
        ],
        "load": {"rate": 3, "requests": REQUESTS, "prompt-tokens": "16..80", "answer-tokens": "10..40"},
    }
    return scenario(**usual | fields)


def check_requests(run: WholeRun) -> None:
    """Every request has ended once, those without an error with all of their tokens, and nothing is left behind."""
    assert [record.request.id for record in run.records] == [f"r{n:06d}" for n in range(REQUESTS)]
    for record in run.records:
        if not record.error:
            assert record.finish == "length"
            assert len(record.tokens) == record.request.max_tokens
    assert run.wrong == []
    assert run.left == {}


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["greedy-batch", "fixed-k", "cyclic-k", "dip-sd", "outrider"])
def test_tokens_and_drafts_are_conserved(policy: str) -> None:
    run = play(loaded(), policy)
    check_requests(run)
    assert all(not record.error for record in run.records)
    rounds = [chunk for record in run.records for chunk in record.chunks]

    # Out come the accepted tokens and one more a round. A draft is cut to what the answer may still have, before.
    assert all(len(chunk.tokens) == chunk.accepted + 1 for chunk in rounds)
    emitted = sum(record.request.max_tokens for record in run.records)
    accepted = sum(chunk.accepted for chunk in rounds)
    assert emitted == accepted + len(rounds) == run.total("outrider_verifier_emitted_tokens_total")

    # Verified are accepted and rejected tokens, the same for client, scheduler and verifier.
    verified = sum(record.drafted_tokens for record in run.records)
    assert accepted == sum(record.accepted_tokens for record in run.records)
    for service in ("scheduler", "verifier"):
        assert accepted == run.total(f"outrider_{service}_accepted_tokens_total")
        assert verified == run.total(f"outrider_{service}_drafted_tokens_total")
    stops = run.total("outrider_scheduler_positions_total", outcome="rejected")
    assert stops <= verified - accepted <= stops * LONGEST

    # Drafted are the verified tokens and those beyond an answer's end, which its last row leaves out.
    drafted = run.total("outrider_device_drafted_tokens_total") - CALIBRATION * 6
    assert 0 <= drafted - verified <= REQUESTS * LONGEST
    assert (
        drafted == run.total("outrider_scheduler_draft_length_sum") or policy == "outrider"
    )  # may leave late ones out
    assert (drafted > 0) == (policy != "greedy-batch")


LONGEST = 20  # tokens of a draft, under any of these policies
CALIBRATION = 3 * 8  # tokens that a device drafts to measure itself

KILLS = {
    "verifier": [{"at": "1.5 s", "kill": "verifier-0", "back": "1 s"}],
    "verifier for good": [{"at": "1.5 s", "kill": "verifier-1"}],
    "device": [{"at": "1 s", "kill": "device-0", "back": "1 s"}, {"at": "2 s", "kill": "device-3"}],
    "scheduler": [{"at": "2 s", "kill": "scheduler", "back": "1 s"}],
}


@pytest.mark.slow
@pytest.mark.parametrize("faults", KILLS.values(), ids=KILLS)
def test_no_request_is_lost_when_processes_die(faults: list[dict[str, str]]) -> None:
    run = play(loaded(faults=faults), "fixed-k")
    check_requests(run)
    assert [record.error for record in run.records if record.error] == []


@pytest.mark.slow
def test_requests_of_a_dead_gateway_fail_and_leave_nothing_behind() -> None:
    """Its clients lose their connections at once; later ones go to the gateway that lives, then to both again."""
    run = play(loaded(faults=[{"at": "2 s", "kill": "gateway-0", "back": "1 s"}]), "fixed-k")
    check_requests(run)
    cut = [record for record in run.records if record.error]
    assert cut
    assert {record.fault for record in cut} == {"cut"}
    assert {round(record.ended - run.state.started, 1) for record in cut} == {2.0}


@pytest.mark.slow
def test_requests_are_refused_only_while_the_broker_is_away() -> None:
    """Those under way pause and go on."""
    run = play(loaded(faults=[{"at": "2 s", "broker_away": "1 s"}]), "fixed-k")
    check_requests(run)
    refused = [record for record in run.records if record.error]
    assert {record.fault for record in refused} == {"http_503"}
    assert all(1.9 < record.ended - run.state.started < 3.1 for record in refused)
    assert any(record.scheduled < run.state.started + 2 < record.ended for record in run.records)


@pytest.mark.slow
def test_who_waits_is_not_sent_to_the_back() -> None:
    """One row a pass for five users who are always ready: each is in every fifth pass."""
    users = 5
    what = scenario(
        core={"hop": "0 ms"},
        devices=[{"count": users, "alpha": 0.5, "draft": "5 ms"}],
        load={"concurrency": users, "requests": users, "prompt-tokens": 16, "answer-tokens": 30},
    )
    steps = [record.chunks for record in play(what, "autoregressive").records]
    begin, end = max(chunks[0].at for chunks in steps), min(chunks[-1].at for chunks in steps)
    passes = sorted({chunk.at for chunks in steps for chunk in chunks if begin < chunk.at <= end})
    assert len(passes) > 20 * users
    for chunks in steps:
        own = [passes.index(chunk.at) for chunk in chunks if begin < chunk.at <= end]
        assert {after - before for before, after in pairwise(own)} == {users}
