"""A target over stages chooses what the whole target chooses: every family, split, page size; pieces under way."""

from pathlib import Path
from typing import Any

import pytest

from services.verifier.stages.pipelined_target import PREFILL_PIECE, split_rows
from shared.compute.target import TargetRow
from shared.speculative.params import SamplingParams
from tests.services.verifier.stages.rings import pipeline, saved
from tests.services.verifier.tiny import VOCAB, configs, greedy, target

PROMPT = tuple(range(3, 40))


def sampled(seed: int) -> SamplingParams:
    return SamplingParams(seed=seed, vocab=VOCAB, temperature=1.0)


@pytest.mark.parametrize("name", sorted(configs()))
@pytest.mark.parametrize("layers", [(4,), (3, 1), (1, 1, 1, 1)])
async def test_it_chooses_what_the_whole_target_chooses(
    name: str, layers: tuple[int, ...], tmp_path: Path
) -> None:
    config = configs()[name]
    whole = target(config)
    rows = [
        TargetRow("a", 0, PROMPT, len(PROMPT), True, sampled(1), logprobs=3),
        TargetRow("b", 0, (*PROMPT[:9], 5, 6, 7), 9, True, greedy()),
        TargetRow("c", 0, (*PROMPT[:5], 5, 6, 7, 8), 5, True, sampled(2), parents=(-1, 0, -1, 2)),
    ]
    async with pipeline(saved(config, tmp_path), config, layers) as piped:
        for one in (whole, piped.target):
            for row in rows:
                assert one.admit(row.session, row.tokens[: row.committed], [], row.start + len(row.tokens))
        expected, got = whole.forward(rows), await piped.forward(rows)
        assert [one.tokens for one in got] == [one.tokens for one in expected]
        assert got[0].logprobs[0][0] == pytest.approx(expected[0].logprobs[0][0], abs=1e-4)
        for one in (whole, piped.target):
            one.keep("c", 5, (2, 3))
            one.keep("b", 10)
            assert one.admit("c", PROMPT[:5], [], 12)
            assert one.admit("b", PROMPT[:9], [], 12)
        more = [
            TargetRow("c", 7, (11, 12, 13), 1, True, sampled(2)),
            TargetRow("b", 10, (9,), 1, True, greedy()),
        ]
        assert [one.tokens for one in await piped.forward(more)] == [
            one.tokens for one in whole.forward(more)
        ]


async def test_passes_of_different_sessions_are_under_way_together(tmp_path: Path) -> None:
    config = configs()["llama"]
    whole = target(config)
    async with pipeline(saved(config, tmp_path), config, (2, 2)) as piped:
        rows = [TargetRow(str(i), 0, PROMPT[i : i + 20], 20, True, sampled(i)) for i in range(6)]
        launched = []
        for row in rows:
            assert piped.target.admit(row.session, row.tokens, [], 20)
            ((one, piece),) = piped.target.launch([row])
            await piped.ring.send(piece)
            launched.append((row, one))
        for row, one in launched:
            choices = piped.target.finish(one, await piped.ring.result(one.number))
            assert whole.admit(row.session, row.tokens, [], 20)
            assert choices[row.session].tokens == whole.forward([row])[0].tokens


async def test_a_session_that_lost_its_pages_meanwhile_is_not_touched(tmp_path: Path) -> None:
    config = configs()["llama"]
    async with pipeline(saved(config, tmp_path), config, (2, 2), kv_tokens=64) as piped:
        row = TargetRow("young", 0, PROMPT[:20], 20, True, greedy())
        assert piped.target.admit("old", (), [], 0)
        assert piped.target.admit("young", row.tokens, [], 20)
        ((one, piece),) = piped.target.launch([row])
        await piped.ring.send(piece)
        assert piped.target.admit("old", PROMPT[:3], ["old"], 60)  # takes the pages of the younger one
        choices = piped.target.finish(one, await piped.ring.result(one.number))
        assert choices["young"].tokens  # computed before the pages were anybody else's
        assert piped.target.cached("young") == 0
        piped.target.keep("young", 20)
        old = TargetRow("old", 0, PROMPT[:30], 30, True, greedy())
        whole = target(config)
        assert whole.admit("old", old.tokens, [], 60)
        assert (await piped.forward([old]))[0].tokens == whole.forward([old])[0].tokens


async def test_shared_prefixes(tmp_path: Path) -> None:
    config = configs()["qwen2"]
    async with pipeline(saved(config, tmp_path), config, (1, 2, 1)) as piped:
        first = TargetRow("a", 0, PROMPT, len(PROMPT), True, greedy())
        assert piped.target.admit("a", PROMPT, [], len(PROMPT))
        (choices,) = await piped.forward([first])
        assert piped.target.admit("b", PROMPT, [], len(PROMPT))
        start = piped.target.cached("b")
        assert start > 0
        second = TargetRow("b", start, PROMPT[start:], len(PROMPT) - start, True, greedy())
        assert (await piped.forward([second]))[0].tokens == choices.tokens


async def test_a_row_that_does_not_fit_sends_nothing(tmp_path: Path) -> None:
    config = configs()["llama"]
    async with pipeline(saved(config, tmp_path), config, (4,)) as piped:
        assert piped.target.admit("a", PROMPT, [], 8)
        with pytest.raises(ValueError, match="beyond its pages"):
            piped.target.launch([TargetRow("a", 0, PROMPT, len(PROMPT), True, greedy())])
        with pytest.raises(ValueError, match="starts at 3"):
            piped.target.launch([TargetRow("a", 3, PROMPT[:2], 2, True, greedy())])


def row_of(committed: int, drafts: int = 0, **options: Any) -> TargetRow:
    return TargetRow("s", 5, tuple(range(committed + drafts)), committed, True, greedy(), **options)


def test_long_rows_are_split_and_end_together() -> None:
    long, short = row_of(150, 3), row_of(2, 1)
    pieces = split_rows([long, short], PREFILL_PIECE)
    assert [[len(row.tokens) for row in piece] for piece in pieces] == [[64], [64], [25, 3]]
    assert [[row.start for row in piece] for piece in pieces] == [[5], [69], [133, 5]]
    assert [row.choose for piece in pieces for row in piece] == [False, False, True, True]
    assert sum((tuple(piece[0].tokens) for piece in pieces), ()) == tuple(long.tokens)
    assert split_rows([short], PREFILL_PIECE) == [[short]]
