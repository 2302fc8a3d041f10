"""Which stage slows the others down, by the states in the beats. Pure."""

from collections import deque
from collections.abc import Sequence
from statistics import median
from typing import Final

from services.verifier.stages.messages import StageState

WINDOW: Final = 30  # beats, about as many seconds
ENOUGH: Final = 100  # tokens: fewer say too little
MUCH: Final = 1.5  # times what the others take


class Pace:
    """Follows the beats of a group."""

    def __init__(self) -> None:
        self._past: deque[tuple[StageState, ...]] = deque(maxlen=WINDOW)

    def follow(self, states: tuple[StageState, ...]) -> None:
        """The states of a new beat, in the order of the stages."""
        self._past.append(states)

    def ms_per_token(self) -> tuple[float, ...]:
        """Computing time of a token in each stage over the last beats; () while too little was computed."""
        if len(self._past) < 2 or len(self._past[0]) != len(self._past[-1]):
            return ()
        pairs = list(zip(self._past[0], self._past[-1], strict=True))
        if min((now.tokens - before.tokens for before, now in pairs), default=0) < ENOUGH:
            return ()
        return tuple(
            (now.busy_us - before.busy_us) / (now.tokens - before.tokens) / 1e3 for before, now in pairs
        )

    def words(self) -> str:
        """The split, and the slowest stage where it is much slower than the others, for people."""
        states = self._past[-1] if self._past else ()
        if not states:
            return ""
        split = f"{len(states)} stages of {', '.join(str(state.layers) for state in states)} layers"
        slow = slowest(self.ms_per_token())
        return f"{split}; {slow}" if slow else split


def slowest(ms_per_token: Sequence[float]) -> str:
    """A line about the stage that takes much longer than the others; "" when none does. Stages count from 1."""
    if len(ms_per_token) < 2:
        return ""
    worst = max(range(len(ms_per_token)), key=lambda stage: ms_per_token[stage])
    others = median(ms for stage, ms in enumerate(ms_per_token) if stage != worst)
    if ms_per_token[worst] <= MUCH * others:
        return ""
    return f"stage {worst + 1} is slow: {ms_per_token[worst]:.2f} ms a token, the others {others:.2f}"
