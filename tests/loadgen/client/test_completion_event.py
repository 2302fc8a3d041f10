"""Events of foreign servers: what they say is counted, what they get wrong is an error with a kind."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.client.completion_event import EventError, apply_event, error_text
from loadgen.client.sse import Event
from loadgen.request import ChatRequest, Record


def fresh() -> Record:
    return Record(ChatRequest("a", "m", "p", 8), 0.0, 0.0)


def after(*bodies: Any, type_: str = "message") -> Record:
    """A record that these events came to, one a second."""
    record = fresh()
    for at, body in enumerate(bodies):
        data = body if isinstance(body, str) else json.dumps(body)
        apply_event(record, Event(data, type_), float(at))
    return record


def chunk(**delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}


@pytest.mark.parametrize(
    "delta",
    [
        {"content": "a"},
        {"content": [{"type": "text", "text": "a"}]},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]},
        {"reasoning_content": "hm"},
        {"reasoning": "hm", "content": None},
        {"reasoning_details": [{"type": "reasoning.text", "text": "hm"}]},
        {"refusal": "no"},
        {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": ""}}]},
        {"function_call": {"name": "f"}},
        {"what_comes_next_year": "x"},
    ],
)
def test_any_token_is_a_token(delta: dict[str, Any]) -> None:
    record = after(chunk(role="assistant", content=""), chunk(**delta), chunk(content="b"))
    assert [piece.at for piece in record.chunks] == [1.0, 2.0]
    assert record.text == ("ab" if "a" in json.dumps(delta.get("content")) else "b")


@pytest.mark.parametrize(
    "body",
    [
        chunk(role="assistant", content=""),
        chunk(role="assistant", content=None, refusal=None, tool_calls=[], annotations=[]),
        chunk(),
        {"choices": None},
        {"choices": []},
        {"choices": [{"delta": None, "finish_reason": None}]},
        {"choices": [{"text": ""}]},
        {"id": "1", "error": None},
        {},
    ],
)
def test_an_event_without_a_token_adds_no_piece(body: dict[str, Any]) -> None:
    record = after(body, "")
    assert (record.chunks, record.fault) == ([], "")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ({"message": "the model fell over", "code": 500}, "the model fell over"),
        ("text", "text"),
        ({"error": {"message": "inner"}}, "inner"),
        ({"detail": "not today"}, "not today"),
        ({"code": 7}, '{"code": 7}'),
        ({"message": None, "code": 7}, '{"message": null, "code": 7}'),
        ({"message": {"text": "odd"}}, '{"text": "odd"}'),
        (["a", "b"], '["a", "b"]'),
        (500, "500"),
        (True, "true"),
    ],
)
def test_an_error_of_any_shape_ends_the_stream_with_its_message(error: Any, words: str) -> None:
    record = fresh()
    assert apply_event(record, Event(json.dumps({"error": error})), 1.0)
    assert (record.fault, record.error) == ("stream", words)


@pytest.mark.parametrize("error", [None, "", {}, [], False, 0])
def test_an_empty_error_field_is_not_an_error(error: Any) -> None:
    record = after({"error": error, **chunk(content="a")})
    assert (record.fault, record.text) == ("", "a")


def test_an_error_may_be_an_event_of_that_type_or_an_object_of_its_own() -> None:
    assert after("plain words", type_="error").error == "plain words"
    assert after({"message": "words"}, type_="error").error == "words"
    record = after({"object": "error", "message": "older vLLM", "code": 400})
    assert (record.fault, record.error) == ("stream", "older vLLM")


def test_an_error_s_text_is_kept_short() -> None:
    assert len(after({"error": "x" * 100_000}).error) == 500


@pytest.mark.parametrize("bad", [None, "5", -1, True, 1.5, float("nan"), float("inf"), 10**12, [5], {"n": 5}])
def test_invalid_counts_keep_the_known_ones(bad: Any) -> None:
    speculative = {"drafted_tokens": 8, "accepted_tokens": 6, "rounds": 3}
    usage = {"prompt_tokens": 9, "completion_tokens": 4, "speculative": speculative}
    nothing = {
        "prompt_tokens": bad,
        "completion_tokens": bad,
        "speculative": dict.fromkeys(speculative, bad),
    }
    record = after({"usage": usage}, {"usage": nothing}, {"usage": {"speculative": bad}}, {"usage": bad})
    assert (record.prompt_tokens, record.completion_tokens) == (9, 4)
    assert (record.drafted_tokens, record.accepted_tokens, record.rounds) == (8, 6, 3)


def test_without_counts_pieces_are_counted() -> None:
    record = after(chunk(content="a"), chunk(content="b"), {"choices": [], "usage": None})
    assert record.count == 2


def test_only_done_ends_a_stream_that_has_no_error() -> None:
    record = fresh()
    assert not apply_event(record, Event(json.dumps(chunk(content="[DONE]"))), 1.0)
    assert not apply_event(record, Event(""), 1.0)
    assert apply_event(record, Event("[DONE]"), 2.0)
    assert apply_event(record, Event(" [DONE] "), 2.0)


def test_outrider_s_spans() -> None:
    detail = {"tokens": [5, 6], "accepted": 1}
    record = after(
        {**chunk(content=""), "outrider": detail}, {**chunk(content="x"), "outrider": {"tokens": 3}}
    )
    assert [(piece.tokens, piece.accepted) for piece in record.chunks] == [((5, 6), 1), ((), 0)]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("{not json", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("1" * 5000, "not JSON"),
        ("[]", "not a JSON object"),
        ('"text"', "not a JSON object"),
        ('{"choices": "text"}', "`choices` is not a list"),
        ('{"choices": {"a": 1}}', "`choices` is not a list"),
        ('{"choices": [null]}', "a choice is not an object"),
        ('{"choices": ["text"]}', "a choice is not an object"),
    ],
)
def test_an_event_that_is_not_a_completion_is_named(data: str, why: str) -> None:
    with pytest.raises(EventError, match=why):
        apply_event(fresh(), Event(data), 1.0)


NAMES = [
    "choices",
    "delta",
    "message",
    "content",
    "text",
    "error",
    "usage",
    "speculative",
    "outrider",
    "completion_tokens",
    "drafted_tokens",
    "tokens",
    "accepted",
    "finish_reason",
    "object",
    "role",
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
    max_leaves=25,
)


@given(JSON)
def test_any_json_is_applied_or_refused_with_a_message(body: Any) -> None:
    record = fresh()
    try:
        over = apply_event(record, Event(json.dumps(body)), 1.0)
    except EventError:
        over = False
    assert over == bool(record.fault)
    assert all(
        type(n) is int and 0 <= n <= 10**6 for n in (record.count, record.drafted_tokens, record.rounds)
    )
    assert isinstance(record.text + record.finish + record.error, str)


@given(JSON)
def test_any_error_has_a_message(error: Any) -> None:
    assert error_text(error)
