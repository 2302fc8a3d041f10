"""What the core asks its shell to do. Effects of one turn are done in the order of `ORDER`, each kind in its own."""

from collections.abc import Mapping
from dataclasses import dataclass

from shared.protocol.messages import Close, Open, Span, StagedBatch, Tune


@dataclass(frozen=True, slots=True)
class Place:
    """Write epoch and placement into the session log."""

    session: str
    epoch: int
    verifier: str
    device: str


@dataclass(frozen=True, slots=True)
class SendToDevice:
    """Put a message into a device's inbox."""

    device: str  # address
    message: Open | Close | Tune


@dataclass(frozen=True, slots=True)
class Stage:
    """Add a batch for a verifier and acknowledge the drafts in it."""

    verifier: str
    batch: StagedBatch
    drafts: tuple[str, ...]  # entry ids of the draft stream


@dataclass(frozen=True, slots=True)
class SendToVerifier:
    """Put a message into a verifier's stream."""

    verifier: str
    message: Close | Tune


@dataclass(frozen=True, slots=True)
class End:
    """Finish a session in its log and tell everybody that holds something for it."""

    session: str
    close: Close
    verifier: str
    device: str
    gateway: str


@dataclass(frozen=True, slots=True)
class AckDraft:
    """Acknowledge a draft that was held and is not wanted any more."""

    entry: str


@dataclass(frozen=True, slots=True)
class ReadHead:
    """Read a session's log and tell the core (`Core.head`, `Core.gone`)."""

    session: str


@dataclass(frozen=True, slots=True)
class Persist:
    """Keep the policy for a scheduler that starts."""

    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Trace:
    """Write spans to the trace stream."""

    spans: tuple[Span, ...]


Effect = Place | SendToDevice | Stage | SendToVerifier | End | AckDraft | ReadHead | Persist | Trace

# A device must find its placement in the log, and a session's Open comes before its first verdict.
ORDER: tuple[type[Effect], ...] = (
    Place,
    SendToDevice,
    Stage,
    SendToVerifier,
    End,
    AckDraft,
    ReadHead,
    Persist,
    Trace,
)
