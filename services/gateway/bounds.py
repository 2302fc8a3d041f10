"""How much work one request may be, found out before the work is done. Pure."""

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
VALUES_PER_MESSAGE: Final = 16  # in a body: a message with one part, and all names of its fields, has ten
MESSAGE_CHARS: Final = 64  # what a message costs beside its text, in characters


@dataclass(frozen=True, slots=True)
class WorkBounds:
    """max_messages: of a chat, each further part of a content counted too. max_chars: of one prompt's text."""

    max_messages: int
    max_chars: int

    def check_body(self, body: bytes) -> None:
        """Whether a body has more values than any request needs. Raises ApiError 400.

        The schema makes an object of each, and an error if it is wrong. A prompt's token ids do not count.
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
        """Before the template sees them. Raises ApiError 400."""
        count = sum(max(1, len(message.content)) for message in messages)
        if count > self.max_messages:
            message = f"{count} messages and parts of content; this server takes {self.max_messages}."
            raise bad_request(message, "messages", "too_many_messages")
        self._check_chars(_chars(messages), "messages")

    def check_prompt(self, prompt: str) -> None:
        """Before it is tokenized. Raises ApiError 400."""
        self._check_chars(len(prompt), "prompt")

    def _check_chars(self, chars: int, field: str) -> None:
        if chars > self.max_chars:
            message = f"The prompt has {chars} characters; this server takes {self.max_chars}."
            raise bad_request(message, field, "context_length_exceeded")


def bounds_of(settings: GatewaySettings) -> WorkBounds:
    """As the settings have them."""
    return WorkBounds(
        settings.max_messages, settings.max_prompt_chars or CHARS_PER_TOKEN * settings.max_context
    )


def chat_cost(messages: Sequence[ChatMessage]) -> int:
    """What it takes to render and tokenize them, in characters."""
    return _chars(messages) + MESSAGE_CHARS * len(messages)


def _chars(messages: Iterable[ChatMessage]) -> int:
    return sum(len(part.text) for message in messages for part in message.content)


def _without_ids(prompt: Any) -> Any:
    """A prompt or several, each list of numbers (token ids) left out."""
    if not isinstance(prompt, list):
        return prompt
    if set(map(type, prompt)) == {int}:
        return None
    return [None if isinstance(item, list) and set(map(type, item)) == {int} else item for item in prompt]


def _more_values(value: Any, limit: int) -> bool:
    """Whether there are more than `limit` values and names in it."""
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
