"""A choice's pieces: their concatenation and their end."""

import math
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from services.gateway.choice import Choice, Piece
from services.gateway.logprobs import FLOOR, chat_logprobs, completion_logprobs
from services.gateway.session import Emitted
from shared.protocol.messages import Finish
from tests.services.gateway.tokenizers_for_tests import STOP_ID, byte_bpe


def run(ids: list[int], cuts: list[int], stops: list[str], finish: Finish = "length") -> Piece:
    """Feed ids as events that end at `cuts`, the last with a finish."""
    choice, total = Choice(byte_bpe(), stops, (STOP_ID,)), Piece()
    borders = [0, *sorted({cut for cut in cuts if 0 < cut < len(ids)}), len(ids)]
    for start, end in pairwise(borders):
        event = Emitted(0, tuple(ids[start:end]), finish=finish if end == len(ids) else "")
        total.extend(choice.feed(event))
        if total.finish:
            break
    return total


@given(
    text=st.text(max_size=30),
    cuts=st.lists(st.integers(0, 60), max_size=8),
    stops=st.lists(st.text(min_size=1, max_size=3), max_size=3),
)
def test_pieces_do_not_depend_on_how_verdicts_were_cut(text: str, cuts: list[int], stops: list[str]) -> None:
    ids = byte_bpe().encode(text) or byte_bpe().encode("x")
    assert run(ids, cuts, stops) == run(ids, [], stops)


def test_a_stop_string_cuts_text_and_tokens() -> None:
    tokenizer = byte_bpe()
    ids = tokenizer.encode("hello world, hello there")
    piece = run(ids, [1, 2, 3, 4, 5, 6, 7, 8], ["world"])
    assert piece.text == "hello "
    assert piece.finish == "stop"
    assert "world" in tokenizer.decode(piece.tokens)
    assert "world" not in tokenizer.decode(piece.tokens[:-1])


def test_the_stop_token_is_counted_but_has_no_text() -> None:
    ids = [*byte_bpe().encode("the dog"), STOP_ID]
    piece = run(ids, [], [], finish="stop")
    assert (piece.text, piece.finish, piece.tokens) == ("the dog", "stop", ids)


def test_accepted_marks_the_drafted_tokens() -> None:
    choice = Choice(byte_bpe(), (), ())
    piece = choice.feed(Emitted(0, (50, 51, 52), drafted=4, accepted=2))
    assert piece.accepted == [True, True, False]


def test_logprobs_in_both_forms() -> None:
    tokenizer = byte_bpe()
    first, second = tokenizer.encode("the")[0], tokenizer.encode("é")[0]
    choice = Choice(tokenizer, (), ())
    entries = ((-0.5, (first, second), (-0.5, -1.0)), (-math.inf, (first,), (math.nan,)))
    piece = choice.feed(Emitted(0, (first, second), entries, finish="length"))
    text = completion_logprobs(piece, tokenizer, 1)
    assert text["token_logprobs"] == [-0.5, FLOOR]
    assert text["text_offset"] == [0, len(tokenizer.token_text(first))]
    assert text["tokens"][0] == tokenizer.token_text(first)
    assert set(text["top_logprobs"][1]) == {tokenizer.token_text(first), tokenizer.token_text(second)}
    chat = chat_logprobs(piece, tokenizer, 2)["content"]
    assert [entry["logprob"] for entry in chat] == [-0.5, FLOOR]
    assert [len(entry["top_logprobs"]) for entry in chat] == [2, 1]
    assert bytes(chat[0]["bytes"]) == tokenizer.token_bytes(first)
