"""A pass that can be repeated, on the modelled target."""

import pytest

from loadgen.measuring.fixed_pass import FixedPass, NoRoom, cache_context
from shared.compute.modelled_target import ModelledTarget
from shared.speculative.params import SamplingParams

CONTEXT = 40


def fixed_pass(target: ModelledTarget, new: int, room: int | None = None) -> FixedPass:
    def sampling(row: int) -> SamplingParams:
        return SamplingParams(seed=row, vocab=target.vocab)

    sessions = ["s0", "s1"]
    for row, session in enumerate(sessions):
        cache_context(
            target, session, range(row, row + CONTEXT), sampling(row), new if room is None else room
        )
    return FixedPass(target, sessions, [range(new)] * 2, CONTEXT, sampling)


def test_every_run_is_the_same_pass() -> None:
    target = ModelledTarget()
    one = fixed_pass(target, new=3)
    runs = []
    for _ in range(3):
        one.reset()
        assert [target.cached(session) for session in ("s0", "s1")] == [CONTEXT, CONTEXT]
        runs.append(one.run())
    assert runs[0] == runs[1] == runs[2]
    assert [len(choices.tokens) for choices in runs[0]] == [3, 3]


def test_a_pool_that_is_too_small_names_the_setting() -> None:
    with pytest.raises(NoRoom, match="OUTRIDER_KV_TOKENS"):
        fixed_pass(ModelledTarget(kv_tokens=32), new=3)
    with pytest.raises(NoRoom, match="140 KV tokens of s0; raise OUTRIDER_KV_TOKENS"):
        fixed_pass(ModelledTarget(kv_tokens=128), new=100, room=0).reset()
