"""All OpenAI fields are known; unimplemented ones accept neutral values only."""

import json
import typing
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import completion_create_params
from openai.types.chat import ChatCompletionMessage
from openai.types.chat import completion_create_params as chat_create_params

from services.gateway.errors import ApiError
from services.gateway.openai_schema import ChatRequest, CompletionRequest, parse

COMPLETION: dict[str, Any] = {"model": "m", "prompt": "hello"}
CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


def completion(**fields: Any) -> CompletionRequest:
    return parse(CompletionRequest, json.dumps(COMPLETION | fields).encode())


def chat(**fields: Any) -> ChatRequest:
    return parse(ChatRequest, json.dumps(CHAT | fields).encode())


def refusal(
    kind: type[CompletionRequest] | type[ChatRequest], body: dict[str, Any] | bytes
) -> dict[str, Any]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(ApiError) as caught:
        parse(kind, data)
    assert caught.value.status == 400
    error: dict[str, Any] = caught.value.body()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


@pytest.mark.parametrize(
    ("kind", "params"),
    [
        (CompletionRequest, completion_create_params.CompletionCreateParamsBase),
        (ChatRequest, chat_create_params.CompletionCreateParamsBase),
    ],
)
def test_every_field_of_the_openai_client_is_known(kind: Any, params: Any) -> None:
    assert set(typing.get_type_hints(params)) <= set(kind.model_fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 1, "best_of": 1, "echo": False, "suffix": None, "logit_bias": {}, "logprobs": None},
        {"frequency_penalty": 0, "presence_penalty": 0.0, "user": "me", "stop": None},
        {"stop": "x"},
        {"stop": ["x", "y"]},
        {"ignore_eos": True, "min_tokens": 0, "repetition_penalty": 1.0, "use_beam_search": False},
        {"stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}},
        {"top_k": -1, "top_p": 1, "temperature": 2, "seed": -(2**63), "max_tokens": 1},
        {"max_tokens": 7, "max_completion_tokens": 7},
        {"prompt": [1, 2, 3]},
        {"prompt": ["a", "b"]},
        {"prompt": [[1], [2, 3]]},
        {"outrider": {"device": "device-0", "spans": True}},
    ],
)
def test_completions_accept(fields: dict[str, Any]) -> None:
    completion(**fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 1, "tools": [], "tool_choice": "none", "response_format": {"type": "text"}, "store": False},
        {"metadata": {"a": "b"}, "service_tier": "auto", "modalities": ["text"], "logit_bias": None},
        {"functions": None, "parallel_tool_calls": True, "prediction": None, "audio": None},
        {"logprobs": True, "top_logprobs": 20, "reasoning_effort": None, "verbosity": "medium"},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}], "name": "bob"}]},
        {"messages": [{"role": "assistant", "content": "x", "refusal": None, "tool_calls": []}]},
    ],
)
def test_chats_accept(fields: dict[str, Any]) -> None:
    chat(**fields)


@pytest.mark.parametrize(
    ("param", "value"),
    [
        ("n", 2),
        ("n", True),
        ("best_of", 3),
        ("echo", True),
        ("suffix", "tail"),
        ("logit_bias", {"5": 1}),
        ("frequency_penalty", 0.1),
        ("presence_penalty", -1),
        ("temperature", 2.1),
        ("temperature", "1"),
        ("top_p", 0),
        ("top_p", 1.1),
        ("top_k", -2),
        ("seed", 1.5),
        ("seed", 2**64),
        ("max_tokens", 0),
        ("max_tokens", -5),
        ("max_completion_tokens", 0),
        ("logprobs", 21),
        ("min_tokens", 3),
        ("stop", ["x"] * 17),
        ("prompt", None),
        ("prompt", {"a": 1}),
        ("prompt", [1, "a"]),
        ("prompt", [1.5]),
        ("outrider.device", None),
        ("unheard_of", 1),
    ],
)
def test_completions_refuse_by_name(param: str, value: Any) -> None:
    fields = {"outrider": {"device": "no such name!"}} if param == "outrider.device" else {param: value}
    assert refusal(CompletionRequest, COMPLETION | fields)["param"] == param


@pytest.mark.parametrize(
    ("param", "fields"),
    [
        ("tools", {"tools": [{"type": "function"}]}),
        ("tool_choice", {"tool_choice": "required"}),
        ("response_format", {"response_format": {"type": "json_object"}}),
        ("store", {"store": True}),
        ("service_tier", {"service_tier": "priority"}),
        ("modalities", {"modalities": ["text", "audio"]}),
        ("reasoning_effort", {"reasoning_effort": "high"}),
        ("messages", {"messages": []}),
        ("messages", {"messages": "hello"}),
        ("messages.0.role", {"messages": [{"role": "tool", "content": "x"}]}),
        ("messages.0.content", {"messages": [{"role": "user"}]}),
        ("messages.0.content", {"messages": [{"role": "user", "content": None}]}),
        (
            "messages.0.content.0.type",
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
        ),
        ("stream_options.include_obfuscation", {"stream_options": {"include_obfuscation": True}}),
    ],
)
def test_chats_refuse_by_name(param: str, fields: dict[str, Any]) -> None:
    assert refusal(ChatRequest, CHAT | fields)["param"] == param


@pytest.mark.parametrize(("content", "text"), [("said before", "said before"), (None, ""), ("", "")])
def test_an_answer_of_the_openai_client_comes_back_as_it_is(content: Any, text: str) -> None:
    answer = ChatCompletionMessage.model_validate({"role": "assistant", "content": content, "audio": None})
    turn = answer.model_dump()
    assert {"annotations", "audio", "refusal", "function_call", "tool_calls"} <= set(turn)
    turn |= {"reasoning_content": None, "some_server's_own": None}
    request = chat(messages=[turn, {"role": "user", "content": "on"}])
    assert request.messages[0].plain() == {"role": "assistant", "content": text}


def test_an_assistant_may_have_said_nothing() -> None:
    assert chat(messages=[{"role": "assistant"}]).messages[0].plain() == {"role": "assistant", "content": ""}


@pytest.mark.parametrize("role", ["user", "system", "developer"])
@pytest.mark.parametrize("message", [{}, {"content": None}])
def test_nobody_else_may_leave_content_out(role: str, message: dict[str, Any]) -> None:
    error = refusal(ChatRequest, CHAT | {"messages": [{"role": role} | message]})
    assert (error["param"], error["code"]) == ("messages.0.content", "missing_required_parameter")


def test_null_is_as_good_as_absent_and_no_more() -> None:
    nothing = {name: None for name in ChatRequest.model_fields if name not in CHAT}
    assert chat(**nothing, unheard_of=None) == chat()
    assert completion(stream_options={"unheard_of": None}, outrider={"device": None}).outrider is not None
    assert refusal(ChatRequest, CHAT | {"messages": [{"role": "user", "content": "x", "zork": 0}]})[
        "code"
    ] == ("unknown_parameter")
    for name in CHAT:
        assert refusal(ChatRequest, CHAT | {name: None})["param"] == name


@pytest.mark.parametrize("field", ["model", "prompt"])
def test_what_is_missing_is_named(field: str) -> None:
    error = refusal(CompletionRequest, {key: value for key, value in COMPLETION.items() if key != field})
    assert error["param"] == field
    assert error["code"] == "missing_required_parameter"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"\xff\xfe",
        b'{"model": "m", "prompt": "\\ud800"}',
        b'{"a":' * 5000,
    ],
)
def test_what_is_no_json_object(body: bytes) -> None:
    assert refusal(CompletionRequest, body)["code"] == "invalid_json"


def test_numbers_are_finite() -> None:
    assert (
        refusal(CompletionRequest, b'{"model":"m","prompt":"a","temperature":NaN}')["param"] == "temperature"
    )


def test_content_parts_are_joined_and_developers_are_the_system() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    request = chat(messages=[{"role": "developer", "content": parts}])
    assert request.messages[0].plain() == {"role": "system", "content": "a\nb"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = sorted({*CompletionRequest.model_fields, *ChatRequest.model_fields})


@given(
    fields=st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=8), JSON, max_size=4),
    chats=st.booleans(),
)
def test_any_field_with_any_value_parses_or_is_refused(fields: dict[str, Any], chats: bool) -> None:
    kind, base = (ChatRequest, CHAT) if chats else (CompletionRequest, COMPLETION)
    with suppress(ApiError):  # and nothing else
        parse(kind, json.dumps(base | fields).encode("utf-8", "surrogatepass"))
