"""Chat messages to prompt ids. Message contents stay text, even where they spell a control token."""

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
    """Renders a chat with the template and tokenizes the result.

    Before rendering, a secret mark is inserted between the letters of any control token that a message spells. So
    control tokens without marks in the rendered text come from the template. These are renamed to secret names, the
    marks are removed, and a copy of the tokenizer that knows control tokens by the secret names only encodes the text.
    Other text is tokenized as usual.

    special_in_text: messages may contain control tokens. Raises ValueError when the tokenizer cannot be copied so.
    """

    def __init__(self, tokenizer: Tokenizer, template: ChatTemplate, special_in_text: bool = False) -> None:
        self._template = template
        self._mark = _secret()  # digits, which no template filter changes
        controls = {} if special_in_text else control_tokens(tokenizer, template)
        secret = _secret()  # a second one, since a template's error message might reveal the mark
        self._names = {text: f"<{secret}-{token}>" for text, token in controls.items()}
        longest_first = sorted(map(re.escape, controls), key=len, reverse=True)
        self._control = re.compile("|".join(longest_first) or r"(?!)")
        self._mark_or_control = re.compile("|".join([self._mark, *longest_first]))
        self._beginnings = frozenset(text[:n] for text in controls for n in range(1, len(text)))
        self._longest = max(map(len, self._beginnings), default=0)
        self._tokenizer = renamed(tokenizer, self._names) if controls else tokenizer

    def ids(self, messages: Sequence[Message]) -> list[int]:
        """Prompt ids, with the assistant's turn opened. Raises TemplateRefused."""
        marked = [{**message, "content": self._marked(message["content"])} for message in messages]
        try:
            text = self._template.render(marked)
        except TemplateRefused as refused:
            raise TemplateRefused(str(refused).replace(self._mark, "")) from None
        text = self._mark_or_control.sub(lambda match: self._names.get(match[0], ""), text)
        return ids_of(self._tokenizer, text, add_special_tokens=False)

    def _marked(self, content: str) -> str:
        content = self._control.sub(lambda match: self._spaced(match[0]), content)
        text = content.rstrip()  # templates may strip whitespace
        for n in range(min(self._longest, len(text)), 0, -1):
            if text[-n:] in self._beginnings:  # the text after the content might complete a control token
                return text[:-n] + self._spaced(text[-n:]) + content[len(text) :]
        return content

    def _spaced(self, text: str) -> str:
        return "".join(letter + self._mark for letter in text)


def _secret() -> str:
    return str(Ids().bits(_SECRET_BITS))
