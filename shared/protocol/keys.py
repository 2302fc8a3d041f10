"""Names of all keys and streams at the broker. Keys of a shard have its hash tag, so that no script crosses shards."""

from dataclasses import dataclass
from typing import Final

GROUP: Final = "outrider"  # consumer group of every work stream
STAGED: Final = (
    ":staged:"  # in the name of every work stream that a single process reads, and that expires without it
)


@dataclass(frozen=True, slots=True)
class Keys:
    """Key names within one shard. An *address* is "name:generation", one incarnation of a process."""

    shard: str = "s0"

    def _key(self, rest: str) -> str:
        return f"or:{{{self.shard}}}:{rest}"

    # Work streams: read by consumer groups; a full stream refuses new entries.
    @property
    def submit(self) -> str:
        """Stream, gateway → scheduler: Submit, Cancel, Control."""
        return self._key("submit")

    @property
    def draft(self) -> str:
        """Stream, devices → scheduler: Draft, Resync."""
        return self._key("draft")

    @property
    def verdicts(self) -> str:
        """Stream, verifier → scheduler: Verdict without tokens."""
        return self._key("verdicts")

    def staged(self, verifier: str) -> str:
        """Stream, scheduler → verifier: StagedBatch, Close, Tune."""
        return f"or:{{{self.shard}}}{STAGED}{verifier}"

    # Inboxes: each belongs to one process generation, which reads it from the start, and expires with it.
    def inbox(self, device: str) -> str:
        """Stream, scheduler and verifier → device (an address): Open, Verdict, Close, Tune."""
        return self._key(f"inbox:{device}")

    def reply(self, gateway: str) -> str:
        """Stream, verifier and scheduler → gateway (an address): Verdict, Close."""
        return self._key(f"reply:{gateway}")

    def own(self, role: str, address: str) -> list[str]:
        """Streams that only this process reads; [] for a scheduler. They expire some time after its heartbeat."""
        match role:
            case "draft_worker":
                return [self.inbox(address)]
            case "gateway":
                return [self.reply(address)]
            case "verifier":
                return [self.staged(address.rpartition(":")[0])]
            case _:
                return []

    # The session log.
    def session(self, session: str) -> str:
        """Hash: spec, prompt_len, max_tokens, gateway, device_wanted, expires_ms, epoch, verifier, device, finish,
        untold.

        untold: position of the first committed token that the device has not been sent.
        """
        return self._key(f"session:{session}")

    def session_ids(self, session: str) -> str:
        """List: committed token ids."""
        return self._key(f"session:{session}:ids")

    def session_logprobs(self, session: str) -> str:
        """List: one packed entry per committed token, if the request has logprobs."""
        return self._key(f"session:{session}:logprobs")

    @property
    def live(self) -> str:
        """Set of open sessions."""
        return self._key("live")

    # Presence.
    def alive(self, role: str, name: str) -> str:
        """Hash: generation, heartbeat. Expires when heartbeats stop."""
        return self._key(f"alive:{role}:{name}")

    def names(self, role: str) -> str:
        """Sorted set: names of a role's live processes, scored by the heartbeat's expiry. Expires with the last one."""
        return self._key(f"names:{role}")

    @property
    def generation(self) -> str:
        """Counter that hands out process generations."""
        return self._key("generation")

    def device_generation(self, name: str) -> str:
        """Generation of one device's latest incarnation. Expires."""
        return self._key(f"generation:{name}")

    @property
    def lease(self) -> str:
        """Hash: holder (the active scheduler's address), term. Expires unless renewed."""
        return self._key("lease")

    @property
    def term(self) -> str:
        """Counter of scheduler leases."""
        return self._key("term")

    @property
    def policy(self) -> str:
        """String: the last Control message, for a scheduler that starts."""
        return self._key("policy")

    @property
    def shares(self) -> str:
        """Hash: the share of each device of a radio cell in bit/s, and how often it was exceeded, for users."""
        return self._key("shares")

    @property
    def deployment(self) -> str:
        """Hash: protocol version, target, vocabulary hash, draft model to use."""
        return self._key("deployment")

    @property
    def birth(self) -> str:
        """Time at which this data began, a part of `run_id`: it is missing after the broker lost its data."""
        return self._key("birth")

    @property
    def dead(self) -> str:
        """Stream of refused messages: source, reason, size, first bytes. Limited in length, expires."""
        return self._key("dead")

    @property
    def trace(self) -> str:
        """Stream of Spans, written with OUTRIDER_TRACE. Limited in length, expires."""
        return self._key("trace")
