"""Effects: what the core asks its shell to do. Kinds are performed in the order of `ORDER`, each in the order asked."""

from collections.abc import Mapping
from dataclasses import dataclass

from shared.protocol.messages import Close, Open, Share, Span, StagedBatch, Tune


@dataclass(frozen=True, slots=True)
class PlaceSession:
    """Write epoch and placement into the session log."""

    session: str
    epoch: int
    verifier: str
    device: str


@dataclass(frozen=True, slots=True)
class SendToDevice:
    """Put a message into a device's inbox."""

    device: str  # address
    message: Open | Close | Tune | Share


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
    """End a session in its log, and close it at its verifier, device and gateway."""

    session: str
    close: Close
    verifier: str
    device: str
    gateway: str


@dataclass(frozen=True, slots=True)
class AckDraft:
    """Acknowledge a held draft that is no longer needed."""

    entry: str


@dataclass(frozen=True, slots=True)
class ReadHead:
    """Read the head of a session's log and pass it to the core (`Core.on_head`, `Core.on_missing_log`)."""

    session: str


@dataclass(frozen=True, slots=True)
class Persist:
    """Store the policy for the next scheduler that starts."""

    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ReportShares:
    """Store the devices' shares, and how often each was exceeded, for users."""

    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Trace:
    """Write spans to the trace stream."""

    spans: tuple[Span, ...]


Effect = (
    PlaceSession
    | SendToDevice
    | Stage
    | SendToVerifier
    | End
    | AckDraft
    | ReadHead
    | Persist
    | ReportShares
    | Trace
)

# A device must find its placement in the log, and a session's Open comes before its first verdict.
ORDER: tuple[type[Effect], ...] = (
    PlaceSession,
    SendToDevice,
    Stage,
    SendToVerifier,
    End,
    AckDraft,
    ReadHead,
    Persist,
    ReportShares,
    Trace,
)
