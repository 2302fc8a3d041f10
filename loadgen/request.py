"""One request and what was seen of it: plain data, times in seconds on the client's own clock."""

from dataclasses import dataclass, field
from typing import Final

# Kinds of errors. connect: nobody there. timeout: over the time for all. stall: nothing for too long in mid-stream.
# cut: ended before its time. garbage: no server-sent events, or none of a completion. stream: an error event. http_N:
# an answer with that status. stopped: the run was over first. internal: a fault of the load generator's own.

ERROR_CHARS: Final = 500  # of an error's text; a server may send any amount


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One completion to ask for. seed makes its text a function of the prompt and the settings.

    raw: the prompt is continued as it stands, not answered; then it may be token ids. ignore_eos: go on to max_tokens
    whatever the model says. kind: of prompt, group: of requests, for the books alone.
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
    """One piece of a stream: when it came, its text, its token ids, how many of them were accepted drafts."""

    at: float
    text: str
    tokens: tuple[int, ...]
    accepted: int


@dataclass(slots=True)
class Record:
    """What was seen of one request. `scheduled` is when it should have been sent, `sent` when it was."""

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
    fault: str = ""  # kind of the error, see above
    retries: int = 0
    prompt_tokens: int = 0  # as the endpoint counts them, 0 = it does not
    completion_tokens: int = 0

    @property
    def count(self) -> int:
        """Completion tokens: as told, or those whose ids came, or one for every piece of the stream."""
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
        """Note an error and its kind. The first one counts: what comes after it is its consequence."""
        if not self.fault:
            self.fault, self.error = fault, error[:ERROR_CHARS] or fault
