"""The draft node: whole batches in the order in which they came, and exactly E tokens a round on average."""

from itertools import pairwise

import pytest

from shared.compute.drafter import DraftRequest, DraftResult
from shared.compute.modelled import Chain, choose
from shared.speculative.params import SamplingParams
from simulator.cohort.draft_node import DraftNode

VOCAB = 100


def request(seed: int, ids: tuple[int, ...] = (1, 2, 3), k: int = 3) -> DraftRequest:
    return DraftRequest(f"s{seed}", ids, k, SamplingParams(seed=seed, vocab=VOCAB))


def node(*batches: list[int], emitted: float = 2.5) -> DraftNode:
    return DraftNode(batches, lambda rows, longest: 10.0 * rows + longest, emitted, VOCAB)


def drafted(drafter: DraftNode) -> list[str]:
    """The sessions that the next batch drafts for."""
    found: list[DraftResult] = []
    while not found:
        found = drafter.step()
    return sorted(result.session for result in found)


def test_a_batch_waits_for_its_members_and_for_the_one_before_it() -> None:
    drafter = node([1, 2], [3])
    drafter.start(request(1))
    assert not drafter.busy()
    assert drafter.costs_s() == ()
    drafter.start(request(2))
    drafter.start(request(3))
    assert list(drafter.costs_s()) == pytest.approx([0.023])
    assert drafted(drafter) == ["s1", "s2"]
    assert list(drafter.costs_s()) == pytest.approx([0.013])
    assert drafted(drafter) == ["s3"]
    assert not drafter.busy()


@pytest.mark.parametrize("emitted", [1.0, 1.8, 2.952, 4.0])
def test_rounds_emit_what_the_formula_says_on_average(emitted: float) -> None:
    drafter, sampling = node([1], emitted=emitted), SamplingParams(seed=1, vocab=VOCAB)
    ids: tuple[int, ...] = (1, 2, 3)
    lengths = [0]
    for _ in range(50):
        drafter.start(request(1, ids))
        (result,) = next(found for found in iter(drafter.step, None) if found)
        chain = Chain()
        chain.feed(ids)
        for token in (*result.tokens, -1):  # the target's own token ends the round
            own = choose(chain.states[-1], sampling, 0)
            chain.feed([own])
            if token != own:
                break
        ids = tuple(chain.tokens)
        lengths.append(len(ids) - 3)
    assert lengths[-1] == int(50 * emitted + 1e-9)
    assert {later - earlier for earlier, later in pairwise(lengths)} <= {int(emitted), int(emitted) + 1}
