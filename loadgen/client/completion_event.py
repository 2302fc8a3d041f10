"""Applies the events of a completion stream to a record, in the dialects of many servers. Pure."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from loadgen.client.sse import Event
from loadgen.request import Chunk, Record

DONE: Final = "[DONE]"
MAX_TOKENS: Final = 1_000_000  # of one request; larger counts are ignored
# Fields that describe a delta. Any other field that is not empty is a token: content, reasoning_content, reasoning,
# refusal, tool_calls, or a field of a server that is not known yet.
NO_TOKENS: Final = frozenset(
    {"role", "name", "id", "index", "type", "annotations", "provider_specific_fields", "metadata"}
)


class EventError(ValueError):
    """An event that is not part of a completion; the text names the field."""


def apply_event(record: Record, event: Event, now: float) -> bool:
    """Apply one event to a record. Returns whether it ends the stream. Raises EventError.

    now: when it arrived, on the record's clock. `[DONE]` and errors end a stream, whatever the server sends afterwards.
    """
    data = event.data.strip()
    if data == DONE:
        return True
    if event.type == "error":
        record.fail("stream", error_text(_json_or_text(data)))
        return True
    if not data:
        return False
    body = _object(data)
    if body.get("object") == "error" or body.get("error"):
        record.fail("stream", error_text(body.get("error") or body))
        return True
    _apply_usage(record, body.get("usage"))
    _apply_choices(record, body, now)
    return False


def error_text(error: Any) -> str:
    """The message of an error object of any shape."""
    while isinstance(error, Mapping):
        inner = error.get("message") or error.get("error") or error.get("detail")
        if not inner:
            break
        error = inner
    return error if isinstance(error, str) and error else json.dumps(error)


def body_error(text: str) -> str:
    """The message in an HTTP error's body, or the body itself."""
    found = _json_or_text(text)
    return error_text(found) if isinstance(found, Mapping) else text


def _json_or_text(data: str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return data


def _object(data: str) -> Mapping[str, Any]:
    try:
        body = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise EventError(f"an event is not JSON ({error}): {data[:80]!r}") from None
    if not isinstance(body, Mapping):
        raise EventError(f"an event is not a JSON object: {data[:80]!r}")
    return body


def _apply_usage(record: Record, usage: Any) -> None:
    """Valid counts replace known ones; null, text and invalid numbers do not."""
    if not isinstance(usage, Mapping):
        return
    record.prompt_tokens = _count(usage.get("prompt_tokens"), record.prompt_tokens)
    record.completion_tokens = _count(usage.get("completion_tokens"), record.completion_tokens)
    speculative = usage.get("speculative")
    if isinstance(speculative, Mapping):
        record.drafted_tokens = _count(speculative.get("drafted_tokens"), record.drafted_tokens)
        record.accepted_tokens = _count(speculative.get("accepted_tokens"), record.accepted_tokens)
        record.rounds = _count(speculative.get("rounds"), record.rounds)


def _count(value: Any, known: int) -> int:
    """A number of tokens; `known` if value is not one."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return int(value) if number and 0 <= value <= MAX_TOKENS and value == int(value) else known


def _apply_choices(record: Record, body: Mapping[str, Any], now: float) -> None:
    """Add one piece of the stream, if it has a token."""
    text, has_token, seen = "", False, False
    for choice in _choices(body.get("choices")):
        piece, more = _choice_text(choice)
        text, has_token, seen = text + piece, has_token or more, True
        if finish := choice.get("finish_reason"):
            record.finish = str(finish)[:100]
    detail = body.get("outrider")
    tokens, accepted = _spans(detail) if seen and isinstance(detail, Mapping) else ((), 0)
    if has_token or tokens:
        record.chunks.append(Chunk(now, text, tokens, accepted))


def _choices(choices: Any) -> Iterator[Mapping[str, Any]]:
    if choices is not None and not isinstance(choices, list):
        raise EventError(f"`choices` is not a list: {json.dumps(choices)[:80]}")
    for choice in choices or ():
        if not isinstance(choice, Mapping):
            raise EventError(f"a choice is not an object: {json.dumps(choice)[:80]}")
        yield choice


def _choice_text(choice: Mapping[str, Any]) -> tuple[str, bool]:
    """The answer's text in a choice, and whether the choice has any token, of the answer or not."""
    delta = choice.get("delta") or choice.get("message")
    fields = delta if isinstance(delta, Mapping) else {}
    text = _plain_text(choice.get("text")) or _plain_text(fields.get("content"))
    return text, bool(text) or any(value for name, value in fields.items() if name not in NO_TOKENS)


def _plain_text(content: Any) -> str:
    """Content as a string, also if it is a list of parts."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else ()
    return "".join(
        part["text"] for part in parts if isinstance(part, Mapping) and isinstance(part.get("text"), str)
    )


def _spans(detail: Mapping[str, Any]) -> tuple[tuple[int, ...], int]:
    """Outrider's token ids of a piece, and how many of them were accepted drafts."""
    tokens = detail.get("tokens")
    ids = tuple(tokens) if isinstance(tokens, list) and all(isinstance(id_, int) for id_ in tokens) else ()
    return ids, _count(detail.get("accepted"), 0)
