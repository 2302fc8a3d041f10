"""One choice of a response: turns tokens into text and cuts it at the first stop string. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from services.gateway.detokenizer import Decoder, Detokenizer
from services.gateway.session import Emitted
from services.gateway.stops import StopScanner
from shared.protocol.messages import TokenLogprobs


@dataclass(slots=True)
class Piece:
    """The part of a choice that one event adds. Tokens, logprobs, offsets and accepted are parallel lists.

    offsets: characters of text decided before each token (text_offset of OpenAI's completions).
    accepted_chars: number of leading characters of `text` that come from accepted drafts.
    """

    text: str = ""
    tokens: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    accepted: list[bool] = field(default_factory=list)
    accepted_chars: int = 0
    finish: str = ""

    def extend(self, later: "Piece") -> None:
        """Append a later piece."""
        self.text += later.text
        self.tokens += later.tokens
        self.logprobs += later.logprobs
        self.offsets += later.offsets
        self.accepted += later.accepted
        self.finish = later.finish


class Choice:
    """Assembles one choice. Feed it a session's events in order until a piece has a finish."""

    def __init__(self, decoder: Decoder, stops: Sequence[str], stop_ids: Sequence[int]) -> None:
        self._detokenizer = Detokenizer(decoder)
        self._scanner = StopScanner(stops)
        self._stop_ids = frozenset(stop_ids)
        self._offset = 0  # characters decoded so far, including those held back

    def feed(self, event: Emitted) -> Piece:
        """The piece that an event adds. Tokens after the one that completes a stop string are dropped."""
        piece = Piece()
        for i, token in enumerate(event.tokens):
            piece.tokens.append(token)
            piece.accepted.append(i < event.accepted)
            piece.offsets.append(self._offset)
            if event.logprobs:
                piece.logprobs.append(event.logprobs[i])
            if token not in self._stop_ids:  # a stop token is not part of the text
                self._decoded(self._detokenizer.push(token), piece)
            if i < event.accepted:
                piece.accepted_chars = len(piece.text)
            if self._scanner.matched:
                piece.finish = "stop"
                return piece
        if event.finish:
            self._decoded(self._detokenizer.flush(), piece)
            piece.text += self._scanner.flush()
            piece.finish = "stop" if self._scanner.matched else event.finish
        return piece

    def _decoded(self, text: str, piece: Piece) -> None:
        self._offset += len(text)
        piece.text += self._scanner.push(text)
