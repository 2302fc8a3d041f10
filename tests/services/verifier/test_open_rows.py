"""Nodes of a tree that come in pieces are decided as if each path were a text of its own."""

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from services.verifier.torch_target import TorchTarget
from shared.compute.target import TargetRow
from shared.speculative.params import SamplingParams
from tests.services.verifier.open_rows import FedTree, random_piece
from tests.services.verifier.stages.rings import pipeline, saved
from tests.services.verifier.tiny import VOCAB, configs, target

PROMPT = tuple(range(3, 22))


def params(seed: int) -> SamplingParams:
    return SamplingParams(seed=seed, vocab=VOCAB, temperature=0.8 if seed % 2 else 0.0)


def alone(one: TorchTarget, ids: Sequence[int], sampling: SamplingParams) -> int:
    """The target's own token after a text."""
    assert one.admit("x", (), [], len(ids))
    token = one.forward([TargetRow("x", 0, tuple(ids), len(ids), True, sampling)])[0].tokens[0]
    one.forget("x")
    return token


@pytest.mark.parametrize("name", sorted(configs()))
def test_pieces_of_a_tree_in_one_process(name: str) -> None:
    config, rng = configs()[name], random.Random(name)
    one, whole = target(config), target(config)
    trees = [FedTree(str(i), list(PROMPT[: 9 + 5 * i]), params(i)) for i in range(2)]
    for tree in trees:
        assert one.admit(tree.session, (), [], len(tree.ids) + 16)
        one.forward([TargetRow(tree.session, 0, tuple(tree.ids), len(tree.ids), False, tree.sampling)])
    for _ in range(3):
        firsts = [len(tree.tokens) for tree in trees]
        rows = [tree.grow(*random_piece(rng, len(tree.tokens), VOCAB)) for tree in trees]
        for tree, first, choices in zip(trees, firsts, one.forward(rows), strict=True):
            assert len(choices.tokens) == len(tree.tokens) - first
            for node, token in enumerate(choices.tokens, start=first):
                assert token == alone(whole, [*tree.ids, *tree.path(node)], tree.sampling)


async def test_pieces_of_a_tree_are_under_way_together_in_a_pipeline(tmp_path: Path) -> None:
    config, rng = configs()["gemma2"], random.Random(5)
    whole = target(config)
    async with pipeline(saved(config, tmp_path), config, (1, 2, 1)) as piped:
        tree = FedTree("a", list(PROMPT), params(1))
        assert piped.target.admit("a", PROMPT, [], len(PROMPT) + 20)
        await piped.forward([TargetRow("a", 0, PROMPT, len(PROMPT), False, tree.sampling)])
        under_way = []
        for _ in range(4):
            first = len(tree.tokens)
            ((launched, piece),) = piped.target.launch([tree.grow(*random_piece(rng, first, VOCAB))])
            await piped.ring.send(piece)
            under_way.append((first, launched))
        for first, launched in under_way:
            choices = piped.target.finish(launched, await piped.ring.result(launched.number))["a"]
            for node, token in enumerate(choices.tokens, start=first):
                assert token == alone(whole, [*PROMPT, *tree.path(node)], tree.sampling)


def test_a_single_node_does_not_see_the_open_nodes_beside_its_path() -> None:
    config = configs()["llama"]
    one, whole, tree = target(config), target(config), FedTree("a", list(PROMPT), params(1))
    assert one.admit("a", (), [], len(PROMPT) + 8)
    one.forward([TargetRow("a", 0, PROMPT, len(PROMPT), False, tree.sampling)])
    for node, (token, parent) in enumerate([(30, -1), (31, -1), (32, 0), (33, 1), (34, -1)]):
        (choices,) = one.forward([tree.grow([token], [parent])])
        assert choices.tokens == (alone(whole, [*PROMPT, *tree.path(node)], tree.sampling),)
