"""The acceptance rule gives the text of sequential decoding for any draft."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from shared.speculative.noise import mix
from shared.speculative.rule import accept_chain, accept_tree

LENGTH = 12
SMALL_VOCAB = st.integers(0, 2)  # so that drafts are often right


def target(seed: int, text: Sequence[int]) -> int:
    """A fake target with a vocabulary of three: its token is a hash of the whole text."""
    state = seed
    for token in text:
        state = mix(state ^ token)
    return mix(state) % 3


def sequential(seed: int, length: int) -> list[int]:
    """The text decoded one token at a time."""
    text: list[int] = []
    while len(text) < length:
        text.append(target(seed, text))
    return text


def node_texts(text: list[int], draft: list[int], parents: list[int]) -> list[list[int]]:
    """For each node of a draft tree, the text that ends with it."""
    texts: list[list[int]] = []
    for token, parent in zip(draft, parents, strict=True):
        texts.append([*(text if parent < 0 else texts[parent]), token])
    return texts


def test_worked_chain() -> None:
    # Drafted 5 7 9; the target says 5, then 7, then 8 instead of 9: commit 5 7 8.
    assert accept_chain([5, 7, 9], [5, 7, 8, 1]) == 2
    assert accept_chain([5, 7, 9], [5, 7, 9, 1]) == 3  # all agree: the bonus token 1 comes on top
    assert accept_chain([5, 7, 9], [4, 7, 9, 1]) == 0  # later agreement is worth nothing
    assert accept_chain([], [4]) == 0


def test_worked_tree() -> None:
    #      root ─ 5 (0) ─ 7 (2) ─ 1 (4)
    #           └ 6 (1) ─ 8 (3)
    draft, parents = [5, 6, 7, 8, 1], [-1, -1, 0, 1, 2]
    assert accept_tree(draft, parents, [5, 7, 0, 2, 0, 0]) == [0, 2]  # then 2, not 1, is corrected
    assert accept_tree(draft, parents, [6, 0, 8, 0, 3, 0]) == [1, 3]  # then 3 is the bonus
    assert accept_tree(draft, parents, [9, 7, 8, 1, 0, 0]) == []


def test_twins_in_a_tree_count_once() -> None:
    assert accept_tree([5, 5, 7], [-1, -1, 1], [5, 3, 3, 3]) == [0]


@given(st.integers(0, 2**64 - 1), st.lists(st.lists(SMALL_VOCAB, max_size=5), min_size=LENGTH))
def test_chains_decode_as_the_target_alone(seed: int, drafts: list[list[int]]) -> None:
    text: list[int] = []
    for draft in drafts:
        choices = [target(seed, text + draft[:i]) for i in range(len(draft) + 1)]
        accepted = accept_chain(draft, choices)
        assert choices[:accepted] == draft[:accepted]
        text += choices[: accepted + 1]
    assert text == sequential(seed, len(text))
    assert len(text) >= LENGTH


@st.composite
def trees(make: st.DrawFn) -> tuple[list[int], list[int]]:
    draft = make(st.lists(SMALL_VOCAB, max_size=8))
    return draft, [make(st.integers(-1, i - 1)) for i in range(len(draft))]


@given(st.integers(0, 2**64 - 1), st.lists(trees(), min_size=LENGTH, max_size=LENGTH))
def test_trees_decode_as_the_target_alone(seed: int, drafts: list[tuple[list[int], list[int]]]) -> None:
    text: list[int] = []
    for draft, parents in drafts:
        choices = [target(seed, t) for t in [text, *node_texts(text, draft, parents)]]
        path = accept_tree(draft, parents, choices)
        assert [parents[node] for node in path] == [-1, *path][: len(path)]  # from the root down
        text += [draft[node] for node in path]
        text.append(choices[path[-1] + 1] if path else choices[0])
    assert text == sequential(seed, len(text))


@given(st.lists(SMALL_VOCAB, max_size=6), st.lists(SMALL_VOCAB, min_size=7, max_size=7))
def test_a_chain_is_a_tree_without_branches(draft: list[int], choices: list[int]) -> None:
    parents = list(range(-1, len(draft) - 1))
    assert len(accept_tree(draft, parents, choices)) == accept_chain(draft, choices)
