"""Drafters in the verifier's process: lookups, and what stands for them in simulations."""

import random

import numpy as np
import pytest

from shared.compute.core_drafter import LookupDrafter
from shared.compute.drafter import DraftRequest
from shared.compute.modelled import expected_text
from shared.compute.modelled_core_drafter import ModelledCoreDrafter
from shared.speculative.lookup import continuation
from shared.speculative.params import SamplingParams

SAMPLING = SamplingParams(seed=7, vocab=1000)
PROMPT = (1, 2, 3)
TEXT = expected_text(PROMPT, SAMPLING, 2000)


def request(committed: int, k: int) -> DraftRequest:
    return DraftRequest("s", (*PROMPT, *TEXT[:committed]), k, SAMPLING)


def test_a_lookup_continues_what_the_session_repeats() -> None:
    ids = (4, 5, 6, 7, 8, 4, 5, 6)
    assert LookupDrafter().draft([DraftRequest("s", ids, 2, SAMPLING)]) == [(7, 8)]


def test_a_lookup_follows_a_session_as_it_grows_and_keeps_sessions_apart() -> None:
    drafter, rng = LookupDrafter(), random.Random(3)
    texts: dict[str, list[int]] = {"a": [1], "b": [2]}
    for _ in range(400):
        name = rng.choice("ab")
        texts[name] += rng.choices(range(3), k=rng.randrange(1, 6))
        drafted = drafter.draft([DraftRequest(name, texts[name], 4, SAMPLING)])
        assert drafted == [continuation(np.array(texts[name]), 4)]
    drafter.forget("a")
    assert drafter.draft([DraftRequest("a", [7, 8, 9, 5, 7, 8, 9], 1, SAMPLING)]) == [(5,)]


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0])
def test_a_modelled_one_is_right_as_often_as_told(alpha: float) -> None:
    drafter = ModelledCoreDrafter(alpha, match=1.0)
    first = [drafter.draft([request(n, 2)])[0] for n in range(1500)]
    right = sum(draft[0] == TEXT[n] for n, draft in enumerate(first)) / len(first)
    assert right == pytest.approx(alpha, abs=0.03)


def test_it_has_a_draft_as_often_as_told_and_goes_on_from_its_own_tokens() -> None:
    drafter = ModelledCoreDrafter(1.0, match=0.4)
    drafts = [drafter.draft([request(n, 3)])[0] for n in range(1500)]
    there = [(n, draft) for n, draft in enumerate(drafts) if draft]
    assert len(there) / len(drafts) == pytest.approx(0.4, abs=0.04)
    assert all(draft == TEXT[n : n + 3] for n, draft in there)
    drafter.forget("s")
    assert not drafter.sessions()
