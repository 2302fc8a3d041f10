"""Chat messages to prompt ids. What a message says is text, even where it spells a control token."""

import re
from collections.abc import Sequence
from typing import Final

from tokenizers import Tokenizer

from services.gateway.chat_template import ChatTemplate, Message, TemplateRefused
from services.gateway.control_tokens import control_tokens, renamed
from services.gateway.encoding import ids_of
from shared.runtime.ids import Ids

_SECRET_BITS: Final = 128


class ChatPrompt:
    """A template and the tokenizer that reads what it writes.

    In a message, marks are put between the letters of whatever spells a control token. So the control tokens of the
    rendered text that hold no mark are the template's. These get names that no client can guess, the marks go, and a
    tokenizer that knows control tokens by those names only reads the result. All other text is read as ever.

    special_in_text: messages may hold control tokens. Raises ValueError when this tokenizer cannot be treated so.
    """

    def __init__(self, tokenizer: Tokenizer, template: ChatTemplate, special_in_text: bool = False) -> None:
        self._template = template
        self._mark = _secret()  # digits: no template's filter changes them
        controls = {} if special_in_text else control_tokens(tokenizer, template)
        secret = _secret()  # another one: a template might show a client the mark in a complaint
        self._names = {text: f"<{secret}-{token}>" for text, token in controls.items()}
        longest_first = sorted(map(re.escape, controls), key=len, reverse=True)
        self._control = re.compile("|".join(longest_first) or r"(?!)")
        self._mark_or_control = re.compile("|".join([self._mark, *longest_first]))
        self._beginnings = frozenset(text[:n] for text in controls for n in range(1, len(text)))
        self._longest = max(map(len, self._beginnings), default=0)
        self._tokenizer = renamed(tokenizer, self._names) if controls else tokenizer

    def ids(self, messages: Sequence[Message]) -> list[int]:
        """The prompt, the assistant's turn opened. Raises TemplateRefused."""
        marked = [{**message, "content": self._marked(message["content"])} for message in messages]
        try:
            text = self._template.render(marked)
        except TemplateRefused as refused:
            raise TemplateRefused(str(refused).replace(self._mark, "")) from None
        text = self._mark_or_control.sub(lambda match: self._names.get(match[0], ""), text)
        return ids_of(self._tokenizer, text, add_special_tokens=False)

    def _marked(self, content: str) -> str:
        content = self._control.sub(lambda match: self._spaced(match[0]), content)
        text = content.rstrip()  # templates may strip
        for n in range(min(self._longest, len(text)), 0, -1):
            if text[-n:] in self._beginnings:  # what comes next might complete it
                return text[:-n] + self._spaced(text[-n:]) + content[len(text) :]
        return content

    def _spaced(self, text: str) -> str:
        return "".join(letter + self._mark for letter in text)


def _secret() -> str:
    return str(Ids().bits(_SECRET_BITS))
