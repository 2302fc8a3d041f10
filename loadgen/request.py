"""A request and the record of its answer: plain data, times in seconds of the client's clock."""

from dataclasses import dataclass, field
from typing import Final

# Kinds of errors. connect: no connection. timeout: the whole request took too long. stall: no data for too long within
# a stream. cut: the stream ended early. garbage: not the server-sent events of a completion. stream: an error event.
# http_N: an answer with status N. stopped: the run ended first. internal: a fault of the load generator itself.

ERROR_CHARS: Final = 500  # of an error's text that are kept


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One completion request. With a seed its text is a function of the prompt and the settings.

    raw: the prompt, text or token ids, is continued, not answered. ignore_eos: generate max_tokens tokens. kind: of
    prompt, group: of requests; both only label the record.
    """

    id: str
    model: str
    prompt: str | tuple[int, ...]
    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    device: str = ""
    raw: bool = False
    ignore_eos: bool = False
    kind: str = ""
    group: str = ""


@dataclass(slots=True)
class Chunk:
    """One piece of a stream: arrival time, text, token ids, and how many of these were accepted drafts."""

    at: float
    text: str
    tokens: tuple[int, ...]
    accepted: int


@dataclass(slots=True)
class Record:
    """The record of one request.

    scheduled: when it should have been sent; sent: when it was. fault: the kind of its error. prompt_tokens,
    completion_tokens: as the endpoint counted them, 0 if it did not.
    """

    request: ChatRequest
    scheduled: float
    sent: float
    chunks: list[Chunk] = field(default_factory=list)
    ended: float = 0.0
    finish: str = ""
    error: str = ""
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    rounds: int = 0
    fault: str = ""
    retries: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def count(self) -> int:
        """Completion tokens: as the endpoint counted them, or the number of ids, or one per piece of the stream."""
        return self.completion_tokens or len(self.tokens) or len(self.chunks)

    @property
    def text(self) -> str:
        """The whole completion."""
        return "".join(chunk.text for chunk in self.chunks)

    @property
    def tokens(self) -> list[int]:
        """Ids of all completion tokens."""
        return [token for chunk in self.chunks for token in chunk.tokens]

    def fail(self, fault: str, error: str) -> None:
        """Set the error and its kind, unless there is one: later errors are consequences of the first."""
        if not self.fault:
            self.fault, self.error = fault, error[:ERROR_CHARS] or fault
