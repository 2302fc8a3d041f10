"""Renders chat messages to prompt text with the target's Jinja template, in a sandbox."""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.nodes import Node
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from services.gateway.wall_clock import wall_clock

Message = Mapping[str, str]


class TemplateRefused(ValueError):
    """The template cannot render these messages; the text is the template's error."""


class ChatTemplate:
    """A compiled template. special: named special tokens that it may use (bos_token, …)."""

    def __init__(
        self, source: str, special: Mapping[str, str], clock: Callable[[], datetime] = wall_clock
    ) -> None:
        env = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
        )
        env.filters["tojson"] = _tojson
        env.globals["raise_exception"] = _raise
        env.globals["strftime_now"] = lambda form: clock().strftime(form)
        self._template = env.from_string(source)
        self._special = dict(special)

    def render(self, messages: Sequence[Message]) -> str:
        """The prompt text, with the assistant's turn opened. Raises TemplateRefused."""
        try:
            return self._template.render(
                messages=[dict(message) for message in messages],
                tools=None,
                documents=None,
                add_generation_prompt=True,
                **self._special,
            )
        except (
            jinja2.TemplateError,
            TypeError,
            ValueError,
            LookupError,
            AttributeError,
            ArithmeticError,
        ) as error:
            raise TemplateRefused(str(error) or type(error).__name__) from error


class _Generation(Extension):
    """`{% generation %}…{% endgeneration %}` marks the assistant's text for training; only its body is rendered."""

    tags = {"generation"}  # noqa: RUF012  # jinja2's own declaration

    def parse(self, parser: Parser) -> list[Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON without HTML escapes: Jinja's own filter adds them, and no model was trained on them."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )
