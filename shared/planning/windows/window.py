"""The interface of a window controller: per round it decides by whom and how far a session's next draft is made.

Pure; the scheduler and the simulator call the same object. Source of the frame: Yu, Li, McDanel, Zhang, "DSD", arXiv
2511.21669, whose window γ is our draft length k. The mode is apart from k: the best k grows with the network's delay,
while the best mode turns to `fused`, so that one number cannot express both.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from shared.planning.cost import Packed
from shared.planning.problem import Prompts
from shared.planning.views import SessionView
from shared.protocol.messages import TreeSource

# distributed: the device drafts. fused: the core drafts, beside the target. tree: the verifier may keep the session and
# go on with trees, where it has a pipeline to fill; else as distributed or fused, by who would grow them. none: nobody
# drafts.
Mode = Literal["distributed", "fused", "tree", "none"]
MAX_K: Final = 16  # no controller drafts further
NO_PROMPTS: Final = Prompts()


class Sessions(Protocol):
    """All sessions of a verifier, without a copy of them."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[SessionView]: ...


@dataclass(frozen=True, slots=True)
class Load:
    """The load of a session's verifier.

    verifier: its name. step: grows with each of its batches. law: milliseconds of a pass, the hop to the next one
    included. rows: mean rows of a pass. cached: mean cached tokens of a row. sessions: all that it serves. queue_s:
    until it has finished what is staged. prompts: of new sessions, which it reads meanwhile.
    """

    verifier: str
    step: int
    law: Packed
    rows: float
    cached: float
    sessions: Sessions
    queue_s: float
    prompts: Prompts = NO_PROMPTS


@dataclass(frozen=True, slots=True)
class Decision:
    """Who drafts next, and how many tokens; k = 0 if and only if the mode is `none`.

    A device's draft is for the row after the one that is being staged, the core's is for that row itself. stop_below: a
    device stops at the token whose survival falls below this byte (shared/speculative/survival.py); 0 = it drafts all
    k. grower: of trees that fill stages. siblings: nodes of a device's tree beyond k.
    """

    mode: Mode
    k: int
    stop_below: int = 0
    grower: TreeSource = ""
    siblings: int = 0

    @property
    def by_device(self) -> bool:
        """Whether the device drafts, chains or trees."""
        return self.mode == "distributed" or self.grower == "device"

    @property
    def by_core(self) -> bool:
        """Whether the core drafts, chains or trees."""
        return self.mode == "fused" or self.grower == "core"

    @classmethod
    def draft(cls, k: int, stop_below: int = 0) -> "Decision":
        """The device drafts k tokens, or nobody drafts."""
        return cls("distributed", k, stop_below) if k else cls("none", 0)

    @classmethod
    def fuse(cls, k: int) -> "Decision":
        """The core drafts k tokens, or nobody drafts."""
        return cls("fused" if k else "none", k)

    @classmethod
    def grow(cls, k: int, grower: TreeSource) -> "Decision":
        """The core or the device drafts trees, or else k tokens."""
        return cls("tree", k, 0, grower) if k else cls("none", 0)


@dataclass(frozen=True, slots=True)
class RoundOutcome:
    """A verified round.

    k: the draft length that was decided. drafted, accepted: tokens of the device's draft. round_s: seconds since the
    round before, 0 = none. fused_drafted, fused_accepted: tokens of the core's own draft.
    """

    k: int
    drafted: int
    accepted: int
    round_s: float
    fused_drafted: int = 0
    fused_accepted: int = 0


class Window(Protocol):
    """Decides draft lengths, from what it observed of each session's rounds and from the present load."""

    name: str

    def observe(self, session: str, outcome: RoundOutcome) -> None:
        """A round of the session was verified."""
        ...

    def decide(self, session: SessionView, load: Load) -> Decision:
        """The draft of the session's round after the row that is being staged, or of that row itself if fused.

        Asked for sessions that cannot draft as well (can_draft): the core can draft for them.
        """
        ...

    def forget(self, session: str) -> None:
        """The session has ended. Unknown sessions are ignored."""
        ...
