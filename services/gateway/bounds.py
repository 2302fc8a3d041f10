"""Bounds on the work of one request, checked before the work is done. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic_core import from_json

from services.gateway.errors import bad_request
from services.gateway.openai_schema import ChatMessage
from shared.runtime.settings import GatewaySettings

CHARS_PER_TOKEN: Final = (
    32  # of a prompt that may still fit; runs of equal characters reach it, texts have 3 to 6
)
VALUES_PER_MESSAGE: Final = 16  # in a body; a message with one part has ten, field names included
MESSAGE_CHARS: Final = 64  # cost of a message beside its text, in characters


@dataclass(frozen=True, slots=True)
class WorkBounds:
    """max_messages: messages of a chat plus further content parts. max_chars: characters of one prompt."""

    max_messages: int
    max_chars: int

    def check_body(self, body: bytes) -> None:
        """Reject a body with more values than any request needs. Raises ApiError 400.

        The schema builds an object, or an error, for each value. A prompt's token ids are not counted.
        """
        limit = VALUES_PER_MESSAGE * self.max_messages
        if len(body) <= 2 * limit:  # a value and a comma
            return
        try:
            value = from_json(body)
        except ValueError:
            return  # the schema says what is wrong with it
        if isinstance(value, dict):
            value["prompt"] = _without_ids(value.get("prompt"))
        if _more_values(value, limit):
            raise bad_request(f"The body has more than {limit} values.", code="too_many_values")

    def check_chat(self, messages: Sequence[ChatMessage]) -> None:
        """Check a chat before its template is rendered. Raises ApiError 400."""
        count = sum(max(1, len(message.content)) for message in messages)
        if count > self.max_messages:
            message = f"{count} messages and parts of content; this server takes {self.max_messages}."
            raise bad_request(message, "messages", "too_many_messages")
        self._check_chars(_chars(messages), "messages")

    def check_prompt(self, prompt: str) -> None:
        """Check a prompt before it is tokenized. Raises ApiError 400."""
        self._check_chars(len(prompt), "prompt")

    def _check_chars(self, chars: int, field: str) -> None:
        if chars > self.max_chars:
            message = f"The prompt has {chars} characters; this server takes {self.max_chars}."
            raise bad_request(message, field, "context_length_exceeded")


def bounds_of(settings: GatewaySettings) -> WorkBounds:
    """The bounds that the settings give."""
    return WorkBounds(
        settings.max_messages, settings.max_prompt_chars or CHARS_PER_TOKEN * settings.max_context
    )


def chat_cost(messages: Sequence[ChatMessage]) -> int:
    """Cost of rendering and tokenizing messages, in characters."""
    return _chars(messages) + MESSAGE_CHARS * len(messages)


def _chars(messages: Iterable[ChatMessage]) -> int:
    return sum(len(part.text) for message in messages for part in message.content)


def _without_ids(prompt: Any) -> Any:
    """The prompt or prompts without lists of token ids."""
    if not isinstance(prompt, list):
        return prompt
    if set(map(type, prompt)) == {int}:
        return None
    return [None if isinstance(item, list) and set(map(type, item)) == {int} else item for item in prompt]


def _more_values(value: Any, limit: int) -> bool:
    """Whether a JSON value contains more than `limit` values and names."""
    waiting, count = [value], 0
    while waiting and count <= limit:
        inner = waiting.pop()
        if isinstance(inner, dict):
            count += 2 * len(inner)
            waiting += inner.values()
        elif isinstance(inner, list):
            count += len(inner)
            waiting += inner
    return count > limit
