"""Packed passes with a cache equal plain transformers passes over the whole text, for every family."""

import random
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from transformers import LlamaConfig

from services.verifier.torch_target import TorchTarget
from shared.compute.target import TargetRow
from shared.speculative.draw import draw
from shared.speculative.params import SamplingParams
from tests.services.verifier.tiny import SIZE, VOCAB, build, configs, greedy, plain_logits, target

CONFIGS = configs()
TOLERANCE = 1e-4


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Models this small only lose time to a second thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Seen:
    """Keeps the logits of each pass, in the order of choices."""

    def __init__(self, model: TorchTarget) -> None:
        self._head = model._head.logits
        self.logits = torch.empty(0)
        model._head.logits = self._watch  # type: ignore[method-assign]  # the figures behind the choices

    def _watch(self, hidden: torch.Tensor) -> torch.Tensor:
        self.logits = self._head(hidden)
        return self.logits


def row(
    model: TorchTarget,
    session: str,
    ids: Sequence[int],
    draft: Sequence[int] = (),
    parents: Sequence[int] = (),
) -> TargetRow:
    """Feed what of ids is not cached, then the draft; admitted."""
    start = model.cached(session)
    assert model.admit(session, ids, [session], len(ids) + len(draft))
    start = model.cached(session)
    fed = tuple(ids[start:])
    return TargetRow(session, start, (*fed, *draft), len(fed), True, greedy(), parents=tuple(parents))


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("contiguous", [True, False])
def test_ragged_rounds_with_rollback_equal_plain_passes(name: str, contiguous: bool) -> None:
    """Several sessions of all lengths, drafts accepted to random lengths, for rounds that cross every window."""
    model, plain = target(CONFIGS[name]), build(CONFIGS[name])
    model._pool._contiguous = contiguous
    seen = Seen(model)
    rng = random.Random(3)  # a test's own choices
    texts = {f"s{i}": [rng.randrange(VOCAB) for _ in range(rng.choice((1, 4, 9, 17)))] for i in range(6)}
    for _ in range(7):
        batch = rng.sample(sorted(texts), rng.randint(1, 6))
        drafts = {s: [rng.randrange(VOCAB) for _ in range(rng.randint(0, 6))] for s in batch}
        rows = [row(model, s, texts[s], drafts[s]) for s in batch]
        answers = model.forward(rows)
        expected = {s: plain_logits(plain, texts[s] + drafts[s])[len(texts[s]) - 1 :] for s in batch}
        worst = choices_differ(seen.logits, expected)
        assert worst < TOLERANCE, worst
        for s, answer in zip(batch, answers, strict=True):
            assert list(answer.tokens) == expected[s].argmax(dim=1).tolist()
            accepted = rng.randint(0, len(drafts[s]))
            model.keep(s, len(texts[s]) + accepted)
            texts[s] += [*drafts[s][:accepted], rng.randrange(VOCAB)]


def choices_differ(logits: torch.Tensor, expected: dict[str, torch.Tensor]) -> float:
    """Largest distance of each expected row to the nearest row of logits (the pass orders rows as it likes)."""
    assert logits.shape[0] == sum(len(rows) for rows in expected.values())
    nearest = [(logits - one).abs().amax(dim=1).min() for rows in expected.values() for one in rows]
    return float(torch.stack(nearest).max())


@pytest.mark.parametrize("name", CONFIGS)
def test_chunked_prefill_equals_one_shot(name: str) -> None:
    ids = [(7 * i) % VOCAB for i in range(40)]
    whole, chunked = target(CONFIGS[name]), target(CONFIGS[name])
    expected, got = Seen(whole), Seen(chunked)
    whole.forward([row(whole, "a", ids)])
    for begin, end in ((0, 3), (3, 16), (16, 17), (17, 39)):
        assert chunked.admit("a", ids, ["a"], end)
        answers = chunked.forward([TargetRow("a", begin, ids[begin:end], end - begin, False, greedy())])
        assert answers[0].tokens == ()
        assert chunked.cached("a") == end
    chunked.forward([row(chunked, "a", ids)])
    assert (got.logits - expected.logits).abs().max() < TOLERANCE


@pytest.mark.parametrize("name", CONFIGS)
def test_a_tree_equals_a_pass_for_each_path(name: str) -> None:
    """Two trees and a chain in one batch, deep enough to cross a window; then the accepted path is kept."""
    model, plain = target(CONFIGS[name]), build(CONFIGS[name])
    seen = Seen(model)
    text = [(5 * i + 1) % VOCAB for i in range(11)]
    draft = [3, 4, 5, 6, 7, 8, 9, 10, 11]
    parents = [-1, -1, 0, 1, 2, 4, 3, 5, 0]
    rows = [
        row(model, "t", text, draft, parents),
        row(model, "c", text[:6], [1, 2]),
        row(model, "u", text, [9, 8], [-1, -1]),
    ]
    answers = model.forward(rows)

    def path(node: int) -> list[int]:
        return [] if node < 0 else [*path(parents[node]), node]

    expected = [
        plain_logits(plain, text + [draft[n] for n in path(node)])[-1] for node in range(-1, len(draft))
    ]
    for logits in expected:
        assert (seen.logits - logits).abs().amax(dim=1).min() < TOLERANCE
    assert list(answers[0].tokens) == [int(logits.argmax()) for logits in expected]

    accepted = path(7)
    model.keep("t", len(text), accepted)
    assert model.cached("t") == len(text) + len(accepted)
    model.keep("c", 6)
    after = text + [draft[n] for n in accepted] + [50]
    model.forward([row(model, "t", after), row(model, "c", [*text[:6], 60])])
    for ids in (after, [*text[:6], 60]):
        assert (seen.logits - plain_logits(plain, ids)[-1]).abs().amax(dim=1).min() < TOLERANCE


@pytest.mark.parametrize(("contiguous", "pages"), [(True, 5 + 5 + 5), (False, 5 + 1 + 1)])
def test_shared_prefixes_change_nothing(contiguous: bool, pages: int) -> None:
    """Referred to where pages are gathered, copied where that keeps a run."""
    config = CONFIGS["llama"]
    model, plain = target(config), build(config)
    model._pool._contiguous = contiguous
    seen = Seen(model)
    prefix = list(range(3, 20))
    for session in "abc":
        text = [*prefix, ord(session) % VOCAB, 5]
        fed = row(model, session, text)
        assert fed.start == (0 if session == "a" else 16)
        model.forward([fed])
        assert (seen.logits[0] - plain_logits(plain, text)[-1]).abs().max() < TOLERANCE
    assert model.pages() == (pages, 128)


@pytest.mark.parametrize("name", CONFIGS)
def test_one_query_alone_over_scattered_pages_sees_its_own_positions_only(name: str) -> None:
    """Pages are gathered whole: what lies behind the last position belongs to nobody, or to somebody else."""
    model, plain = target(CONFIGS[name]), build(CONFIGS[name])
    model._pool._contiguous = False
    model.fill_with_noise()
    seen = Seen(model)
    text = [(3 * i + 2) % VOCAB for i in range(6)]
    for _ in range(12):  # page ends and windows are crossed on the way
        model.forward([row(model, "a", text)])
        assert (seen.logits[0] - plain_logits(plain, text)[-1]).abs().max() < TOLERANCE
        text.append(text[-1] * 5 % VOCAB)


def test_eviction_leaves_the_others_right() -> None:
    config = CONFIGS["qwen2"]
    model, plain = target(config, kv_tokens=24, prefix_sharing=False), build(config)
    seen = Seen(model)
    old, young = [3, 4, 5, 6, 7], [8, 9, 10, 11, 12, 13, 14, 15, 16]
    model.forward([row(model, "old", old), row(model, "young", young)])
    longer = old + list(range(20, 32))
    model.forward([row(model, "old", longer)])
    assert model.cached("young") == 0
    assert (seen.logits[0] - plain_logits(plain, longer)[-1]).abs().max() < TOLERANCE
    assert not model.admit("young", young, ["young"], len(young))
    model.forget("old")
    model.forward([row(model, "young", young)])
    assert (seen.logits[0] - plain_logits(plain, young)[-1]).abs().max() < TOLERANCE


def test_choices_are_the_draw_at_their_positions() -> None:
    model, plain = target(CONFIGS["llama"]), build(CONFIGS["llama"])
    text, draft, parents = [3, 1, 4, 1, 5], [9, 2, 6], [-1, 0, -1]
    hot = SamplingParams(seed=11, vocab=VOCAB, temperature=1.3, top_k=20, top_p=0.9)
    for session, tree in (("chain", ()), ("tree", tuple(parents))):
        assert model.admit(session, text, [session], 8)
        cached = model.cached(session)
        fed = TargetRow(session, cached, (*text[cached:], *draft), 5 - cached, True, hot, parents=tree)
        answer = model.forward([fed])[0]
        paths = [[], [9], [9, 2], [6]] if tree else [[], [9], [9, 2], [9, 2, 6]]
        expected = [
            draw(plain_logits(plain, text + path)[-1].numpy(), hot, len(text) + len(path)) for path in paths
        ]
        assert list(answer.tokens) == expected


def test_logprobs_are_of_the_raw_logits() -> None:
    model, plain = target(CONFIGS["gemma2"]), build(CONFIGS["gemma2"])
    text, draft = [3, 1, 4], [1, 5]
    sampling = SamplingParams(seed=2, vocab=VOCAB, temperature=0.7, top_k=3)
    assert model.admit("a", text, ["a"], 5)
    assert model.admit("b", text, ["b"], 3)
    answers = model.forward(
        [
            TargetRow("a", 0, (*text, *draft), 3, True, sampling, logprobs=4),
            TargetRow("b", model.cached("b"), text, 3, True, sampling, logprobs=0),
        ]
    )
    expected = torch.log_softmax(plain_logits(plain, text + draft)[2:], dim=-1)
    for i, (own, ids, values) in enumerate(answers[0].logprobs):
        assert own == pytest.approx(float(expected[i][answers[0].tokens[i]]), abs=TOLERANCE)
        best = expected[i].topk(4)
        assert list(ids) == best.indices.tolist()
        assert list(values) == pytest.approx(best.values.tolist(), abs=TOLERANCE)
    assert [(ids, values) for _, ids, values in answers[1].logprobs] == [((), ())]


def test_padding_rows_of_the_head_are_never_chosen() -> None:
    config = LlamaConfig(**SIZE)
    model = TorchTarget(build(config), vocabulary="tiny", vocab=5, kv_tokens=64, page_tokens=4)
    assert model.admit("a", [1, 2], ["a"], 2)
    sampling = SamplingParams(seed=0, vocab=5)
    answer = model.forward([TargetRow("a", 0, [1, 2], 2, True, sampling, logprobs=20)])[0]
    assert answer.tokens[0] < 5
    assert sorted(answer.logprobs[0][1]) == [0, 1, 2, 3, 4]
    assert float(torch.tensor(answer.logprobs[0][2]).exp().sum()) == pytest.approx(1.0, abs=1e-5)


def test_bfloat16_logits_are_float32() -> None:
    config = CONFIGS["llama"]
    model = TorchTarget(build(config, dtype=torch.bfloat16), vocabulary="tiny", vocab=VOCAB, kv_tokens=64)
    seen = Seen(model)
    model.forward([row(model, "a", [1, 2, 3, 4], [5, 6])])
    assert seen.logits.dtype == torch.float32
    assert not torch.equal(seen.logits, seen.logits.bfloat16().float())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"start": 1}, "starts at 1, cached 0"),
        ({"tokens": (1, 2, VOCAB)}, "token beyond the vocabulary of 97"),
        ({"tokens": (1, 2, -1)}, "token beyond the vocabulary"),
        ({"tokens": tuple(range(9))}, "beyond its pages"),
        ({"committed": 0}, "0 of 3 tokens committed"),
        ({"committed": 4}, "4 of 3 tokens committed"),
    ],
)
def test_a_row_that_does_not_fit_is_refused(change: dict[str, Any], message: str) -> None:
    model = target(CONFIGS["llama"])
    assert model.admit("a", [1, 2, 3], ["a"], 3)
    fields = {
        "session": "a",
        "start": 0,
        "tokens": (1, 2, 3),
        "committed": 3,
        "choose": True,
        "sampling": greedy(),
    }
    with pytest.raises(ValueError, match=message):
        model.forward([TargetRow(**{**fields, **change})])
    assert model.cached("a") == 0


def test_bounds() -> None:
    model = target(CONFIGS["llama"], max_context=100, kv_tokens=130)
    assert (model.max_context, model.pool_tokens, model.vocab) == (100, 128, VOCAB)
    assert not model.admit("a", [1], ["a"], 101)
    assert model.forward([]) == []
    model.forget("unknown")
    assert model.cached("unknown") == 0
