"""The page allocator: conservation, sharing, eviction, placement."""

from itertools import combinations

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.verifier.pool import PagePool, prefix_hashes, roundest

PAGE = 4
NAMES = st.sampled_from("abcdefgh")
PROMPTS = [list(range(n)) for n in (1, 4, 5, 9, 13, 16)] + [[7, *range(1, 12)], [0, 1, 2, 3, 9, 9, 9, 9, 9]]


class Conservation(RuleBasedStateMachine):
    """Whatever sessions do, every page is held, blank or warm, and a page that two hold is never written."""

    @staticmethod
    def make() -> PagePool:
        return PagePool(12, PAGE)

    def __init__(self) -> None:
        super().__init__()
        self.pool = self.make()
        self.prompts: dict[str, list[int]] = {}
        self.order: list[str] = []
        self.kv = {page: [-1] * PAGE for page in range(self.pool.pages)}  # what is written where

    @rule(
        name=NAMES,
        prompt=st.sampled_from(PROMPTS),
        more=st.integers(-12, 9),
        protect=st.sets(NAMES, max_size=3),
    )
    def feed(self, name: str, prompt: list[int], more: int, protect: set[str]) -> None:
        """A row of a new session or of one that keeps its prompt: a chunk of the prompt, or beyond."""
        prompt = self.prompts.setdefault(name, prompt)
        if name not in self.order:
            self.order.append(name)
        before = {other: self.pool.length(other) for other in self.order}
        holding = {other for other in self.order if self.pool.length(other)}
        length = max(self.pool.length(name), 1, len(prompt) + more)
        free = self.pool.pages - self.pool.used
        if not self.pool.admit(name, prompt, [*protect, name], length):
            assert before == {other: self.pool.length(other) for other in self.order}
            assert free == self.pool.pages - self.pool.used
            return
        gone = {other for other in holding if not self.pool.length(other)}
        assert not gone & (protect | {name})
        assert all(self.order.index(other) > self.order.index(name) for other in gone)
        assert len(self.pool.table(name)) * PAGE >= max(length, self.pool.length(name))
        assert self.pool.length(name) < max(len(prompt), 1) or before[name]
        found = 0 if before[name] else self.pool.length(name) // PAGE
        assert len(self.pool.copies) in (0, found)
        copied = {to: list(self.kv[source]) for source, to in self.pool.copies}
        assert all(to in self.pool.table(name) and self.pool._refs[to] == 1 for to in copied)
        self.kv.update(copied)
        for position in range(self.pool.length(name), length):
            page = self.kv[self.pool.table(name)[position // PAGE]]
            page[position % PAGE] = prompt[position] if position < len(prompt) else ord(name)
        self.pool.fed(name, max(length, self.pool.length(name)))

    @rule(name=NAMES, cut=st.integers(0, 9))
    def roll_back(self, name: str, cut: int) -> None:
        if self.pool.length(name) > len(self.prompts.get(name, ())):
            length = max(len(self.prompts[name]), self.pool.length(name) - cut)
            self.pool.keep(name, length)
            assert self.pool.length(name) == length
            assert len(self.pool.table(name)) == -(-length // PAGE)

    @rule(name=NAMES)
    def fail(self, name: str) -> None:
        self.pool.forget(name)
        self.prompts.pop(name, None)
        if name in self.order:
            self.order.remove(name)

    @invariant()
    def conserved(self) -> None:
        pool = self.pool
        held = [page for name in self.order for page in pool.table(name)]
        assert set(held) == set(pool._refs)
        assert all(pool._refs[page] == held.count(page) for page in set(held))
        everything = [*set(held), *pool._blank, *pool._warm]
        assert sorted(everything) == list(range(pool.pages))
        assert set(pool._warm) <= set(pool._hash_of)
        assert not set(pool._blank) & set(pool._hash_of)
        assert {pool._page_of[prefix]: prefix for prefix in pool._page_of} == pool._hash_of

    @invariant()
    def everybody_finds_its_own_text(self) -> None:
        for name in self.order:
            for position in range(self.pool.length(name)):
                page = self.kv[self.pool.table(name)[position // PAGE]]
                prompt = self.prompts[name]
                assert page[position % PAGE] == (prompt[position] if position < len(prompt) else ord(name))

    @invariant()
    def shared_pages_are_full_prompt_pages(self) -> None:
        for name in self.order:
            table = self.pool.table(name)
            hashes = prefix_hashes(self.prompts[name], PAGE)
            for place, page in enumerate(table):
                if self.pool._refs[page] > 1:
                    assert (place + 1) * PAGE <= self.pool.length(name)
                    assert self.pool._hash_of[page] == hashes[place]


class ContiguousConservation(Conservation):
    """The same for a pool that keeps sessions in runs."""

    @staticmethod
    def make() -> PagePool:
        return PagePool(20, PAGE, contiguous=True)  # room enough to copy in


class UnsharedConservation(Conservation):
    """The same without sharing."""

    @staticmethod
    def make() -> PagePool:
        return PagePool(12, PAGE, sharing=False)


for machine in (Conservation, ContiguousConservation, UnsharedConservation):
    machine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestConservation = Conservation.TestCase
TestContiguousConservation = ContiguousConservation.TestCase
TestUnsharedConservation = UnsharedConservation.TestCase


def admitted(pool: PagePool, name: str, prompt: list[int], length: int = 0) -> None:
    assert pool.admit(name, prompt, [name], length or len(prompt))
    pool.fed(name, length or len(prompt))


def test_a_prefix_is_shared_in_full_pages_and_its_last_token_left_to_compute() -> None:
    pool = PagePool(16, PAGE)
    admitted(pool, "a", list(range(12)))
    assert pool.admit("b", list(range(12)), ["b"], 12)
    assert pool.length("b") == 8
    assert pool.table("b")[:2] == pool.table("a")[:2]
    assert pool.table("b")[2] != pool.table("a")[2]


def test_a_page_is_found_by_all_that_comes_before_it() -> None:
    pool = PagePool(16, PAGE)
    admitted(pool, "a", [1, 1, 1, 1, 5, 5, 5, 5, 9])
    assert pool.admit("b", [2, 2, 2, 2, 5, 5, 5, 5, 9], ["b"], 9)
    assert pool.length("b") == 0


def test_only_computed_pages_are_shared() -> None:
    pool = PagePool(16, PAGE)
    assert pool.admit("a", list(range(9)), ["a"], 9)
    pool.fed("a", 4)
    assert pool.admit("b", list(range(9)), ["b"], 9)
    assert pool.length("b") == 4


def test_a_prefix_outlives_its_session_until_its_pages_are_needed() -> None:
    pool = PagePool(4, PAGE)
    admitted(pool, "a", list(range(9)))
    pool.forget("a")
    assert pool.used == 0
    admitted(pool, "b", list(range(9)))
    assert pool.used == 3
    pool.forget("b")
    admitted(pool, "c", [50] * 16)  # takes all four pages
    pool.forget("c")
    assert pool.admit("d", list(range(9)), ["d"], 9)
    assert pool.length("d") == 0


def test_sharing_can_be_switched_off() -> None:
    pool = PagePool(16, PAGE, sharing=False)
    admitted(pool, "a", list(range(9)))
    assert pool.admit("b", list(range(9)), ["b"], 9)
    assert pool.length("b") == 0


def test_the_youngest_goes_first_and_the_oldest_never() -> None:
    pool = PagePool(4, PAGE, sharing=False)
    for name in "abcd":
        admitted(pool, name, [1, 2, 3])
    assert pool.admit("a", [], ["a"], 8)
    assert (pool.length("c"), pool.length("d")) == (3, 0)
    assert not pool.admit("d", [], ["d"], 4)  # all others are older
    assert pool.admit("b", [], ["b", "c"], 4)
    assert not pool.admit("b", [], ["b", "c"], 8)
    assert pool.length("a") == 3


def test_a_place_in_the_order_outlives_eviction() -> None:
    pool = PagePool(3, PAGE, sharing=False)
    for name in "abc":
        admitted(pool, name, [1])
    assert pool.admit("a", [], ["a"], 12)
    pool.keep("a", 4)
    admitted(pool, "c", [1])
    admitted(pool, "b", [1])
    assert pool.admit("b", [], ["b"], 8)
    assert pool.length("c") == 0


def test_nobody_goes_when_it_would_not_be_enough() -> None:
    pool = PagePool(4, PAGE, sharing=False)
    for name in "abcd":
        admitted(pool, name, [1])
    assert not pool.admit("b", [], ["b", "d"], 16)
    assert pool.used == 4


def test_rollback_never_reaches_shared_pages() -> None:
    pool = PagePool(8, PAGE)
    admitted(pool, "a", list(range(10)), 12)
    pool.keep("a", 8)
    with pytest.raises(ValueError, match="rollback to 7, into shared"):
        pool.keep("a", 7)


def test_runs_start_at_equal_distances() -> None:
    pool = PagePool(64, PAGE, sharing=False, contiguous=True)
    for name in "abcdefgh":
        admitted(pool, name, [1] * 9)
    assert sorted(pool.table(name)[0] for name in "abcdefgh") == list(range(0, 64, 8))
    assert all(pool.table(name)[2] == pool.table(name)[0] + 2 for name in "abcdefgh")


def test_a_short_shared_prefix_is_copied_to_keep_a_run() -> None:
    pool = PagePool(64, PAGE, contiguous=True)
    admitted(pool, "a", list(range(10)))
    assert pool.admit("b", list(range(10)), ["b"], 10)
    assert pool.length("b") == 8
    assert pool.table("b") == [32, 33, 34]
    assert pool.copies == [(0, 32), (1, 33)]


def test_runs_are_at_equal_distances_whatever_was_there_before() -> None:
    pool = PagePool(64, PAGE, contiguous=True)
    for names in ("abc", "defgh", "hgfedcba"):
        for name in names:
            admitted(pool, name, [*range(8), ord(name)])
        firsts = sorted(pool.table(name)[0] for name in names)
        for name in names:
            assert pool.table(name) == list(range(pool.table(name)[0], pool.table(name)[0] + 3))
            pool.forget(name)
    assert firsts == list(range(0, 64, 8))


def test_a_first_chunk_shorter_than_what_is_shared() -> None:
    """Pages for the whole copy, whatever the first row asks for."""
    pool = PagePool(64, PAGE, contiguous=True)
    admitted(pool, "a", list(range(10)))
    assert pool.admit("b", list(range(10)), ["b"], 3)
    assert (pool.length("b"), pool.table("b"), pool.copies) == (8, [32, 33], [(0, 32), (1, 33)])


def test_a_long_shared_prefix_is_not_copied() -> None:
    pool = PagePool(64, PAGE, contiguous=True)
    prompt = list(range(9 * PAGE + 1))
    admitted(pool, "a", prompt)
    assert pool.admit("b", prompt, ["b"], len(prompt))
    assert pool.table("b")[:9] == pool.table("a")[:9]
    assert pool.copies == []


def test_nobody_is_pushed_out_for_a_copy() -> None:
    pool = PagePool(6, PAGE, contiguous=True)
    admitted(pool, "a", list(range(10)))
    admitted(pool, "old", [1])
    admitted(pool, "z", [60])
    assert pool.admit("b", list(range(10)), ["b"], 10)
    assert pool.copies == []
    assert pool.table("b")[:2] == pool.table("a")[:2]


def test_roundest() -> None:
    def twos(number: int) -> int:
        return number & -number if number else 1 << 30

    for low, high in combinations(range(40), 2):
        assert roundest(low, high) in range(low, high)
        assert twos(roundest(low, high)) == max(twos(number) for number in range(low, high))
