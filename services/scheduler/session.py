"""Counters and phase of one session. No tokens: a draft only passes through, held until its batch closes."""

from dataclasses import dataclass, field

from shared.planning.estimates import Acceptance, DeviceEstimate
from shared.planning.views import Phase, SessionView
from shared.protocol.messages import Close, Draft, Finish


@dataclass(frozen=True, slots=True)
class HeldDraft:
    """A draft that waits for its batch, and the entry of the draft stream it came in."""

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
    epoch: int = 0
    verifier: str = ""  # name; "" = not placed
    device: str = ""  # address; "" = served without drafts

    phase: Phase = "prefill"
    since: float = 0.0
    timer_at: float = 0.0
    misses: int = 0  # verdicts in a row that did not come in time

    cached: int = 0  # tokens the verifier has cached, as far as known
    chunk: int = 1 << 20  # prefill tokens in one chunk at most
    prefilling_next: bool = False  # when blocked: what waits is a chunk

    round: int = 0
    batch: int = 0  # of the row under way
    row_device: str = ""  # the device that row names: it gets the verdict
    allowed_k: int = 0  # what the device may draft now
    draft_requested_at: float = 0.0  # when the move went to the device
    draft_requested_len: int = 0  # and the length it was to draft from; 0 = never asked
    drafts: int = 0  # accepted from this device
    caught_up: bool = True
    draft_after: float = 0.0  # k = 0 until then, after drafts that did not come
    penalty_s: float = 0.5  # the next such time
    offer_after: float = 0.0  # without a device until then: the last one refused it
    adopted: bool = False  # read from the log by a scheduler that starts; whose move it is is not known yet
    held: HeldDraft | None = None
    acceptance: Acceptance = field(default_factory=Acceptance)

    @property
    def committed(self) -> int:
        """Tokens committed after the prompt."""
        return self.length - self.prompt_len

    @property
    def remaining(self) -> int:
        """Tokens it may still emit."""
        return self.max_tokens - self.committed

    @property
    def missing(self) -> int:
        """Tokens to feed before the next one can be sampled; at least the newest, which has no KV yet."""
        return max(1, self.length - self.cached)

    @property
    def drafted(self) -> int:
        """Tokens in hand for the next row."""
        return len(self.held.draft.tokens) if self.held else 0

    def view(self, can_draft: bool, device: DeviceEstimate) -> SessionView:
        """The session as policies see it."""
        return SessionView(
            session=self.id,
            joined=self.joined,
            phase=self.phase,
            since=self.since,
            length=self.length,
            remaining=self.remaining,
            drafted=self.drafted,
            can_draft=can_draft,
            device=self.device,
            alpha=self.acceptance.alpha,
            seen=self.acceptance.seen,
            expected_alpha=self.acceptance.expected,
            known=self.acceptance.known,
            draft_s_per_token=device.draft_s.value,
            link_s=device.link_s.value,
            spread_s=device.spread_s.value,
            asked=self.allowed_k if self.phase == "drafting" else 0,
        )

    def close(self, finish: Finish, message: str = "") -> Close:
        """The message that ends it."""
        return Close(self.id, self.epoch, finish, message)
