"""Random streams are named by purpose: policies see the same arrivals, lengths and luck; users do not share theirs."""

from dataclasses import replace

import pytest

from loadgen.request import Record
from simulator.scenario import SimulatedScenario
from tests.simulator.runs import run, scenario

Place = tuple[str, int]  # request and position


def luck(records: list[Record], k: int = 0) -> dict[Place, bool]:
    """Whether the draft was right, at every position that was verified. k: of all drafts, 0 = not known."""
    right: dict[Place, bool] = {}
    for record in records:
        position = len(record.request.prompt)
        for chunk in record.chunks:
            for at in range(chunk.accepted):
                right[record.request.id, position + at] = True
            if chunk.accepted < min(k, len(chunk.tokens)):
                right[record.request.id, position + chunk.accepted] = False
            position += len(chunk.tokens)
    return right


def rejected(records: list[Record], k: int) -> dict[Place, bool]:
    """As `luck`, without each request's first round: the prompt's last row has no draft. Nor its last two."""
    whole = [replace(record, chunks=record.chunks[:-2]) for record in records]
    firsts = {(record.request.id, len(record.request.prompt)) for record in records}
    return {place: right for place, right in luck(whole, k).items() if place not in firsts}


def open_loop(**fields: object) -> SimulatedScenario:
    """Twelve requests of different lengths within seconds."""
    load = {"rate": 2, "requests": 12, "prompt-tokens": "16..48", "answer-tokens": "20..60", "drain": 600}
    return scenario(load=load, **fields)


@pytest.mark.slow
def test_policies_see_the_same_arrivals_lengths_and_luck() -> None:
    policies = [("fixed-k", 3), ("cyclic-k", 5), ("outrider", 0)]
    runs = [run(open_loop(), policy, k).records for policy, k in policies]
    requests = [[(record.request, record.scheduled) for record in records] for records in runs]
    assert requests[0] == requests[1] == requests[2]
    fixed, cyclic = rejected(runs[0], 3), rejected(runs[1], 5)
    both = fixed.keys() & cyclic.keys()
    assert {fixed[place] for place in both} == {True, False}
    assert len(both) > 100
    assert [place for place in both if fixed[place] != cyclic[place]] == []
    planned = luck(runs[2])
    assert planned
    assert [place for place in planned.keys() & fixed.keys() if not fixed[place]] == []


def test_users_of_equal_devices_do_not_share_their_luck() -> None:
    """Without a load, users send prompts of one length: their drafts must not be right at the same positions."""
    what = scenario(
        workload={"prompt": 16, "answer": 60}, devices=[{"count": 2, "alpha": 0.5, "draft": "5 ms"}]
    )
    whole = [record for record in run(what, k=3).records if record.completion_tokens == 60]
    by_user: dict[str, dict[Place, bool]] = {"u0": {}, "u1": {}}
    for (request, position), right in rejected(whole, 3).items():
        user, _, turn = request.partition("-")
        by_user[user][turn, position] = right
    first, second = by_user.values()
    both = first.keys() & second.keys()
    assert len(both) > 50
    differing = sum(first[place] != second[place] for place in both)
    assert 0.25 * len(both) < differing < 0.75 * len(both)


def test_turns_of_a_user_do_not_repeat_their_luck() -> None:
    what = scenario(
        workload={"prompt": 16, "answer": 30}, devices=[{"count": 1, "alpha": 0.5, "draft": "5 ms"}]
    )
    seeds = [record.request.seed for record in run(what, k=3).records]
    assert len(seeds) > 4
    assert len(set(seeds)) == len(seeds)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_seed_gives_its_own_devices_arrivals_and_luck(seed: int) -> None:
    what = open_loop(devices=[{"count": 2, "alpha": "0.5..0.9", "draft": "4..8 ms"}], seed=seed)
    other = what.model_copy(update={"seed": 3})
    assert what.fleet(1.0) != other.fleet(1.0)
    mine, theirs = run(what).records, run(other).records
    assert [record.scheduled for record in mine] != [record.scheduled for record in theirs]
    assert [record.request.seed for record in mine] != [record.request.seed for record in theirs]
