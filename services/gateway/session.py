"""One session in its gateway: the request, the tokens received and the tokens delivered. Pure.

Verdicts are applied by absolute position: known tokens are skipped, new ones are appended, and a gap is filled from
the session log.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from shared.protocol.messages import Close, Finish, TokenLogprobs, Verdict
from shared.protocol.session import SessionLog, SessionSpec
from shared.speculative.params import SamplingParams

Reason = Literal["deadline", "cancel", "error", "broker", "draining"]


@dataclass(frozen=True, slots=True)
class SessionRequest:
    """Request for a session: `SessionSpec` without the fields that the gateway adds (id, address, deadline)."""

    prompt: tuple[int, ...]
    sampling: SamplingParams
    max_tokens: int
    stop_ids: tuple[int, ...] = ()
    logprobs: int = -1  # number of likeliest tokens per token; -1 = no logprobs
    device: str = ""


@dataclass(frozen=True, slots=True)
class Emitted:
    """Committed tokens, in order. The first `accepted` of them are accepted drafts, of `drafted` in that round.

    fused_drafted, fused_accepted: the same of a round in which the core drafted itself, in place of a device.
    """

    index: int  # which of the sessions opened together
    tokens: tuple[int, ...]
    logprobs: tuple[TokenLogprobs, ...] = ()  # one per token when requested
    drafted: int = 0
    accepted: int = 0
    finish: Finish = ""  # "stop" or "length"; any other end is a Failed
    fused_drafted: int = 0
    fused_accepted: int = 0


@dataclass(frozen=True, slots=True)
class Failed:
    """The session ended before its text was finished."""

    index: int
    reason: Reason
    message: str


Event = Emitted | Failed


class GatewaySession:
    """Turns verdicts and log readings into events, each token once and in order."""

    def __init__(
        self, index: int, spec: SessionSpec, deadline_at: float, deliver: Callable[[Event], None]
    ) -> None:
        self.index = index
        self.spec = spec
        self.length = len(spec.prompt)  # prompt and delivered tokens
        self.finished = False
        self.last_reply_at = math.inf  # time of the last reply; inf until the session is submitted
        self.deadline_at = deadline_at
        self._deliver = deliver

    def apply(self, verdict: Verdict) -> bool:
        """Deliver a verdict's new tokens. False when there is a gap, which `catch_up` fills from the log."""
        if self.finished:
            return True
        skip = self.length - verdict.base_len
        tokens = verdict.tokens[max(skip, 0) :]
        if skip < 0 or verdict.length > self.length + len(tokens):
            return False
        with_logprobs = self.spec.logprobs >= 0
        if with_logprobs and len(verdict.logprobs) != len(verdict.tokens):
            return False
        logprobs = verdict.logprobs[skip:] if with_logprobs else ()
        emitted = Emitted(
            self.index,
            tokens,
            logprobs,
            verdict.drafted if tokens else 0,
            min(max(verdict.accepted - skip, 0), len(tokens)),
            fused_drafted=verdict.fused_drafted if tokens else 0,
            fused_accepted=min(max(verdict.fused_accepted - skip, 0), len(tokens)),
        )
        self._advance(emitted, verdict.finish)
        return True

    def catch_up(self, log: SessionLog) -> None:
        """Deliver the log's tokens that were not delivered yet."""
        if self.finished:
            return
        have = self.length - len(self.spec.prompt)
        message = "the session ended with an error" if log.head.finish == "error" else ""
        missed = Emitted(self.index, log.committed[have:], log.logprobs[have:])
        self._advance(missed, log.head.finish, message)

    def close(self, close: Close) -> None:
        """Handle a Close; all tokens of the session have been delivered."""
        self._advance(Emitted(self.index, ()), close.finish or "error", close.message)

    def fail(self, reason: Reason, message: str) -> None:
        """End the session here with an error."""
        if not self.finished:
            self.finished = True
            self._deliver(Failed(self.index, reason, message))

    def _advance(self, emitted: Emitted, finish: Finish, message: str = "") -> None:
        """Deliver tokens, and the end that comes with them."""
        if self.finished:
            return
        self.length += len(emitted.tokens)
        natural: Finish = finish if finish in ("stop", "length") else ""
        if emitted.tokens or natural:
            self._deliver(replace(emitted, finish=natural))
        if natural:
            self.finished = True
        elif finish:
            reason: Reason = finish if finish in ("deadline", "cancel") else "error"
            self.fail(reason, message or _WHY[reason])


_WHY = {
    "deadline": "the request took longer than this server allows",
    "cancel": "the session was cancelled",
    "error": "the session ended with an error",
}
