"""Modelled layers give the modelled target's text through splits, trees, rollbacks and moves; a wrong slot shows."""

import pytest

from services.verifier.stages.messages import Piece
from shared.compute.modelled import expected_text
from shared.compute.modelled_target import ModelledTarget
from shared.compute.target import TargetRow
from simulator.stages.modelled_block import UNWRITTEN
from tests.simulator.stages.rows import PAGE, VOCAB, Layers, sampling

PROMPT = tuple(range(1, 24))


def whole() -> ModelledTarget:
    return ModelledTarget(VOCAB, kv_tokens=256, page_tokens=PAGE, max_context=256)


@pytest.mark.parametrize("stages", [1, 4])
def test_it_chooses_what_the_whole_target_chooses(stages: int) -> None:
    layers, one = Layers(stages), whole()
    rows = [
        TargetRow("a", 0, PROMPT, len(PROMPT), True, sampling(1), logprobs=2),
        TargetRow("b", 0, (*PROMPT[:9], 5, 6, 7), 9, True, sampling(2)),
        TargetRow("c", 0, (*PROMPT[:5], 5, 6, 7, 8), 5, True, sampling(3), parents=(-1, 0, -1, 2)),
    ]
    for target in (layers.target, one):
        for row in rows:
            assert target.admit(row.session, row.tokens[: row.committed], [], len(row.tokens))
    assert layers.forward(rows) == one.forward(rows)
    for target in (layers.target, one):
        target.keep("c", 5, (2, 3))  # nodes move to where they belong
        assert target.admit("c", PROMPT[:5], [], 12)
    more = [TargetRow("c", 7, (11, 12), 1, True, sampling(3))]
    assert layers.forward(more) == one.forward(more)


def test_prompts_longer_than_a_piece_and_shared_prefixes() -> None:
    layers, prompt = Layers(kv_tokens=512), tuple(range(1, 160))
    assert layers.target.admit("a", prompt, [], len(prompt))
    (first,) = layers.forward([TargetRow("a", 0, prompt, len(prompt), True, sampling(1))])
    assert first.tokens == expected_text(prompt, sampling(1), 1)
    assert layers.target.admit("b", prompt, [], len(prompt))
    start = layers.target.cached("b")
    assert start > 0
    row = TargetRow("b", start, prompt[start:], len(prompt) - start, True, sampling(1))
    assert layers.forward([row])[0] == first


def test_pieces_of_a_tree_while_others_are_under_way() -> None:
    layers = Layers()
    text = expected_text(PROMPT, sampling(1), 4)
    ids = PROMPT
    assert layers.target.admit("a", ids, [], 40)
    layers.forward([TargetRow("a", 0, ids[:-1], len(ids) - 1, False, sampling(1))])
    start = len(ids) - 1
    root = TargetRow("a", start, (ids[-1], 7, text[0]), 1, True, sampling(1), parents=(-1, -1))
    deeper = TargetRow("a", start + 1, (text[1],), 0, True, sampling(1), parents=(1,), open=(-1, -1))
    ((one, first),) = layers.target.launch([root], counted=True)
    layers.target.sent("a", start + 1)
    ((two, second),) = layers.target.launch([deeper], counted=True)
    assert layers.finish(one, first)["a"].tokens[::2] == text[:2]
    assert layers.finish(two, second)["a"].tokens == text[2:3]


def test_a_slot_that_differs_in_one_stage_makes_another_text() -> None:
    layers = Layers()
    assert layers.target.admit("a", PROMPT, [], 40)
    layers.forward([TargetRow("a", 0, PROMPT[:-1], len(PROMPT) - 1, False, sampling(1))])
    slot = max(layers.blocks[1]._states)
    layers.blocks[1]._states[slot] ^= 1
    row = TargetRow("a", len(PROMPT) - 1, PROMPT[-1:], 1, True, sampling(1))
    assert layers.forward([row])[0].tokens != expected_text(PROMPT, sampling(1), 1)


def test_a_move_of_what_was_never_written_is_no_state_of_any_text() -> None:
    block = Layers().blocks[0]
    block.run(Piece(1, (3,), (4,), (), b""))  # a node that died: it was not computed, and its slot is copied
    assert block._states[4] == UNWRITTEN


def test_the_head_takes_its_time_by_all_rows() -> None:
    rows = [TargetRow("a", 0, PROMPT, len(PROMPT), True, sampling(1))]
    assert Layers().target.cost_s(rows) == pytest.approx((5.0 + 0.5 * len(PROMPT)) / 1e3)
