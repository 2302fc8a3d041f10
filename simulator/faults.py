"""Faults of one process, by the number of its call or message, counted over all its lives."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from shared.protocol.keys import Keys

CallFault = Literal["die", "die_after", "away", "away_after", "delay", "delay_after"]
MessageFault = Literal["drop", "repeat"]

AT_COMPUTE: Final[tuple[CallFault, ...]] = ("die", "die_after", "delay")
AT_BROKER: Final[tuple[CallFault, ...]] = ("die", "die_after", "away", "away_after", "delay", "delay_after")
AT_MESSAGE: Final[tuple[MessageFault, ...]] = ("drop", "repeat")
COMPUTE: Final = "compute"  # the name of a call to Compute; all others are operations of the broker


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault of a process at its n-th call, or its n-th message."""

    process: str
    n: int
    kind: CallFault | MessageFault


class FaultCounter:
    """Numbers the calls and messages of one process and says which of them fail, and how.

    calls: operations in order. messages: streams in order. hit: faults that came to pass, by kind.
    """

    def __init__(self, process: str, faults: Iterable[Fault] = ()) -> None:
        self.calls: list[str] = []
        self.messages: list[str] = []
        self.hit: Counter[str] = Counter()
        own = [fault for fault in faults if fault.process == process]
        self._at_call = {fault.n: fault.kind for fault in own if fault.kind not in AT_MESSAGE}
        self._at_message = {fault.n: fault.kind for fault in own if fault.kind in AT_MESSAGE}

    def call(self, operation: str) -> str | None:
        """Count a call. Returns its fault, None without one."""
        kind = self._at_call.get(len(self.calls))
        self.calls.append(operation)
        if kind not in (AT_COMPUTE if operation == COMPUTE else AT_BROKER):
            return None
        self.hit[kind] += 1
        return kind

    def copies(self, stream: str) -> int:
        """Count a message. Returns how often it arrives. A Submit comes with its log and cannot get lost alone."""
        kind = self._at_message.get(len(self.messages))
        self.messages.append(stream)
        if kind is None or (kind == "drop" and stream == Keys().submit):
            return 1
        self.hit[kind] += 1
        return 0 if kind == "drop" else 2
