"""Counters and phase of one session. It stores no tokens except a draft that waits for its batch."""

from dataclasses import dataclass, field

from shared.planning.estimates import Acceptance, DeviceEstimate
from shared.planning.views import Phase, SessionView
from shared.protocol.messages import Close, Draft, Finish


@dataclass(frozen=True, slots=True)
class HeldDraft:
    """A draft that waits for its batch, and the id of its entry in the draft stream."""

    entry: str
    draft: Draft


@dataclass(slots=True)
class ScheduledSession:
    """One session as the scheduler knows it. Times are loop-clock seconds."""

    id: str
    joined: int
    prompt_len: int
    max_tokens: int
    deadline_at: float
    gateway: str
    device_wanted: str
    length: int  # committed length
    opened_at: float
    temperature: float | None = None  # None = not known, of a session read from its log
    epoch: int = 0
    verifier: str = ""  # name; "" = not placed
    device: str = ""  # address; "" = served without drafts

    phase: Phase = "prefill"
    since: float = 0.0
    timer_at: float = 0.0
    misses: int = 0  # verdicts in a row that did not come in time

    cached: int = 0  # tokens that the verifier has cached, as far as we know
    chunk: int = 1 << 20  # maximum prefill tokens in one chunk
    prefilling_next: bool = False  # in phase blocked: a prefill chunk waits, not a decoding row

    round: int = 0
    advanced_at: float = 0.0  # when its last tokens were committed; 0 = none yet
    batch: int = 0  # number of the batch that holds the row under way
    survival: bytes = b""  # of the draft in that row
    parents: tuple[int, ...] = ()  # of that draft, if it is a tree
    row_device: str = ""  # device named in that row; it receives the verdict
    tree: int = 0  # in phase kept: the committed length from which the device's tree hangs, 0 = it grows none
    allowed_k: int = 0  # maximum length of the device's current draft
    allowed_siblings: int = 0  # nodes that it may have beyond that, as a tree
    draft_requested_at: float = 0.0  # when the device was asked for a draft
    draft_requested_len: int = 0  # committed length it was to draft after; 0 = never asked
    draft_requested_tokens: int = 0  # that the verdict which asked for it carried
    drafts: int = 0  # drafts received from this device in time
    drafted_len: int = 0  # tokens that its device has read and drafted, by its latest draft
    caught_up: bool = True
    opening: bool = False  # its Open waits until its device's cell has carried what was sent before
    draft_after: float = 0.0  # probation after a missed draft: k = 0 until then
    penalty_s: float = 0.5  # length of the next probation
    offer_after: float = 0.0  # offered to no device until then, since the last one refused it
    adopted: bool = False  # read from the log at a term's start; not known yet whether its device drafts
    held: HeldDraft | None = None
    acceptance: Acceptance = field(default_factory=Acceptance)

    @property
    def committed(self) -> int:
        """Tokens committed after the prompt."""
        return self.length - self.prompt_len

    @property
    def remaining(self) -> int:
        """Tokens the session may still emit."""
        return self.max_tokens - self.committed

    @property
    def missing(self) -> int:
        """Tokens to feed before the next one can be sampled; at least 1, since the newest has no KV yet."""
        return max(1, self.length - self.cached)

    @property
    def drafted(self) -> int:
        """Draft tokens held for the next row."""
        return len(self.held.draft.tokens) if self.held else 0

    def view(self, can_draft: bool, device: DeviceEstimate) -> SessionView:
        """The session as a view for policies."""
        acceptance = self.acceptance
        return SessionView(
            session=self.id,
            joined=self.joined,
            phase=self.phase,
            since=self.since,
            length=self.length,
            remaining=self.max_tokens - self.length + self.prompt_len,
            drafted=len(self.held.draft.tokens) if self.held else 0,
            can_draft=can_draft,
            device=self.device,
            alpha=acceptance.alpha,
            seen=acceptance.seen,
            expected_alpha=acceptance.expected,
            prior_weight=acceptance.prior_weight,
            draft_s_per_token=device.draft_s.value,
            link_s=device.link_s.value,
            spread_s=device.spread_s.value,
            requested=self.allowed_k if self.phase == "drafting" else 0,
            survival=device.survival_curve(self.temperature),
        )

    def close(self, finish: Finish, message: str = "") -> Close:
        """The message that ends the session."""
        return Close(self.id, self.epoch, finish, message)
