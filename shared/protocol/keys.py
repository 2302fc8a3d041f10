"""Every key and stream name. All keys of a shard carry its hash tag, so no script crosses shards."""

from dataclasses import dataclass
from typing import Final

GROUP: Final = "outrider"  # consumer group of every work stream


@dataclass(frozen=True, slots=True)
class Keys:
    """Names within one shard. An *address* is "name:generation"."""

    shard: str = "s0"

    def _key(self, rest: str) -> str:
        return f"or:{{{self.shard}}}:{rest}"

    # Work streams: consumer groups, bounded by refusal.
    @property
    def submit(self) -> str:
        """gateway → scheduler: Submit, Cancel, Control."""
        return self._key("submit")

    @property
    def draft(self) -> str:
        """devices → scheduler: Draft, Resync."""
        return self._key("draft")

    @property
    def verdicts(self) -> str:
        """verifier → scheduler: Verdict without tokens."""
        return self._key("verdicts")

    def staged(self, verifier: str) -> str:
        """scheduler → verifier: StagedBatch, Close, Tune."""
        return self._key(f"staged:{verifier}")

    # Inboxes: one process generation, read from the start, expire with it.
    def inbox(self, device: str) -> str:
        """scheduler, verifier → device (an address): Open, Verdict, Close, Tune."""
        return self._key(f"inbox:{device}")

    def reply(self, gateway: str) -> str:
        """verifier, scheduler → gateway (an address): Verdict, Close."""
        return self._key(f"reply:{gateway}")

    def own(self, role: str, address: str) -> list[str]:
        """The stream that a process reads alone, [] for a role that has none. It goes some time after its heartbeat."""
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
        and untold: the position from which on the device has not been told."""
        return self._key(f"session:{session}")

    def session_ids(self, session: str) -> str:
        """List: committed token ids."""
        return self._key(f"session:{session}:ids")

    def session_logprobs(self, session: str) -> str:
        """List: one packed entry per committed token, when asked for."""
        return self._key(f"session:{session}:logprobs")

    @property
    def live(self) -> str:
        """Set of open sessions."""
        return self._key("live")

    # Who is there.
    def alive(self, role: str, name: str) -> str:
        """Hash: generation, heartbeat. Expires."""
        return self._key(f"alive:{role}:{name}")

    def names(self, role: str) -> str:
        """Sorted set: the names of a role that have a heartbeat, by when it lapses. Expires with the last."""
        return self._key(f"names:{role}")

    @property
    def generation(self) -> str:
        """Counter that hands out process generations."""
        return self._key("generation")

    def device_generation(self, name: str) -> str:
        """The same, of one device. Expires."""
        return self._key(f"generation:{name}")

    @property
    def lease(self) -> str:
        """Hash: holder (the active scheduler's address), term. Expires."""
        return self._key("lease")

    @property
    def term(self) -> str:
        """Counter of scheduler leases."""
        return self._key("term")

    @property
    def policy(self) -> str:
        """The last Control, for a scheduler that starts."""
        return self._key("policy")

    @property
    def deployment(self) -> str:
        """Hash: protocol version, target, vocabulary hash, draft model to use."""
        return self._key("deployment")

    @property
    def birth(self) -> str:
        """When this data began: missing after the broker lost it, so a part of `run_id`."""
        return self._key("birth")

    @property
    def dead(self) -> str:
        """Stream of refused messages: source, reason, size, the first bytes. Capped, expires."""
        return self._key("dead")

    @property
    def trace(self) -> str:
        """Stream of Spans. Capped, expires, off by default."""
        return self._key("trace")
