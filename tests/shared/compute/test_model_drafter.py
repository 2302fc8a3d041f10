"""A model as the core's drafter, on the modelled target, whose drafts are all right: it draws the same text."""

from collections.abc import Sequence

import pytest

from shared.compute.drafter import DraftRequest
from shared.compute.model_drafter import MAX_FED, ModelDrafter
from shared.compute.modelled import expected_text
from shared.compute.modelled_target import ModelledTarget
from shared.compute.target import Choices, TargetRow
from shared.speculative.params import SamplingParams

VOCAB = 1000


def text_of(name: str, prompt: int, n: int = 60) -> tuple[tuple[int, ...], SamplingParams]:
    """A session's prompt and answer together, and its sampling."""
    sampling = SamplingParams(seed=ord(name), vocab=VOCAB)
    ids = tuple(1 + n % (VOCAB - 1) for n in range(prompt))
    return ids + expected_text(ids, sampling, n, stop_ids=()), sampling


def request(name: str, prompt: int, committed: int, k: int) -> DraftRequest:
    text, sampling = text_of(name, prompt)
    return DraftRequest(name, text[: prompt + committed], k, sampling)


@pytest.mark.parametrize("sharing", [True, False])
def test_it_drafts_for_all_sessions_of_a_batch_and_follows_them(sharing: bool) -> None:
    model = ModelledTarget(VOCAB, page_tokens=4, prefix_sharing=sharing)
    drafter = ModelDrafter(model)
    lengths = {"a": 8, "b": 13, "c": 9}
    done = dict.fromkeys(lengths, 0)
    for turn, k in enumerate((3, 1, 5, 2, 4)):
        named = [name for name in lengths if (turn + ord(name)) % 3]  # not every session has a row every time
        drafts = drafter.draft([request(name, lengths[name], done[name], k) for name in named])
        for name, draft in zip(named, drafts, strict=True):
            text, _ = text_of(name, lengths[name])
            start = lengths[name] + done[name]
            assert draft == text[start : start + k]
            assert model.cached(name) == start  # what was drafted is rolled back
            done[name] += 1 + turn % k
    for name in lengths:
        drafter.forget(name)
    assert not model.sessions()


def test_the_same_row_again_gives_the_same_draft() -> None:
    drafter = ModelDrafter(ModelledTarget(VOCAB, page_tokens=4))
    assert drafter.draft([request("a", 8, 0, 3)]) == drafter.draft([request("a", 8, 0, 3)])


def test_a_long_prompt_is_read_over_several_rows() -> None:
    drafter = ModelDrafter(ModelledTarget(VOCAB, prefix_sharing=False))
    long = 2 * MAX_FED + 1
    assert drafter.draft([request("a", long, 0, 2)]) == [()]
    assert drafter.draft([request("a", long, 0, 2)]) == [()]
    text, _ = text_of("a", long)
    assert drafter.draft([request("a", long, 0, 2)]) == [text[long : long + 2]]


def test_long_prompts_share_a_pass_and_hold_nobody_up() -> None:
    drafter = ModelDrafter(ModelledTarget(VOCAB, prefix_sharing=False))
    lengths = {"a": MAX_FED - 100, "b": MAX_FED - 100, "c": 9}

    def drafted(committed: int) -> list[int]:
        requests = [request(name, prompt, committed, 2) for name, prompt in lengths.items()]
        return [len(draft) for draft in drafter.draft(requests)]

    assert drafted(0) == [2, 0, 2]
    assert drafted(1) == [2, 2, 2]


def test_without_room_there_is_no_draft_and_others_have_theirs() -> None:
    model = ModelledTarget(VOCAB, kv_tokens=16, page_tokens=4, prefix_sharing=False)
    one, other = ModelDrafter(model).draft([request("a", 8, 0, 3), request("b", 8, 0, 3)])
    assert (len(one), other) == (3, ())


class Failing(ModelledTarget):
    """Fails in its second pass."""

    passes = 0

    def forward(self, rows: Sequence[TargetRow]) -> list[Choices]:
        """See TargetModel."""
        self.passes += 1
        if self.passes == 2:
            raise RuntimeError("out of memory")
        return super().forward(rows)


def test_a_pass_that_fails_costs_a_draft_and_nothing_else() -> None:
    model = Failing(VOCAB)
    drafter = ModelDrafter(model)
    assert drafter.draft([request("a", 8, 0, 3)]) == [()]
    assert not model.sessions()
    text, _ = text_of("a", 8)
    assert drafter.draft([request("a", 8, 1, 3)]) == [text[9:12]]
