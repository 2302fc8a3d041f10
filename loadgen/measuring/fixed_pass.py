"""One pass of a target model that can be repeated: the sessions are rolled back to their context after each run."""

from collections.abc import Callable, Sequence
from typing import Final

from shared.compute.target import Choices, TargetModel, TargetRow
from shared.speculative.params import SamplingParams

CHUNK: Final = 512  # prompt tokens per prefill pass

Sampling = Callable[[int], SamplingParams]  # parameters by row


class NoRoom(RuntimeError):
    """The target's KV pool is too small for the sessions."""


def cache_context(
    target: TargetModel, session: str, ids: Sequence[int], sampling: SamplingParams, room: int = 0
) -> None:
    """Prefill a new session with `ids`. room: further tokens that its pages must hold. Raises NoRoom."""
    if not target.admit(session, ids, [session], len(ids) + room):
        raise NoRoom(f"no room for {len(ids) + room} KV tokens; raise OUTRIDER_KV_TOKENS")
    while (start := target.cached(session)) < len(ids):
        chunk = ids[start : start + CHUNK]
        target.forward([TargetRow(session, start, chunk, len(chunk), False, sampling)])


class FixedPass:
    """A verification pass: row r feeds its tokens, one committed and the rest drafted, after `context` cached ones.

    tokens: [rows][new tokens]. Call `run`, then `reset` before the next run.
    """

    def __init__(
        self,
        target: TargetModel,
        sessions: Sequence[str],
        tokens: Sequence[Sequence[int]],
        context: int,
        sampling: Sampling,
    ) -> None:
        self._target, self._sessions, self._context = target, list(sessions), context
        self._rows = [
            TargetRow(session, context, ids, 1, choose=True, sampling=sampling(row))
            for row, (session, ids) in enumerate(zip(sessions, tokens, strict=True))
        ]

    def reset(self) -> None:
        """Roll back to the context and reserve pages for the next run. Raises NoRoom."""
        for row in self._rows:
            if self._target.cached(row.session) > self._context:
                self._target.keep(row.session, self._context)
            length = self._context + len(row.tokens)
            if not self._target.admit(row.session, (), self._sessions, length):
                raise NoRoom(f"no room for {length} KV tokens of {row.session}; raise OUTRIDER_KV_TOKENS")

    def run(self) -> list[Choices]:
        """The pass: packing, model, head, draw. One Choices per row."""
        return self._target.forward(self._rows)
