"""A scheduler core with a manual clock, and short helpers for its messages."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from prometheus_client import CollectorRegistry

from services.scheduler.core import Core
from services.scheduler.effects import Effect, SendToDevice, Stage
from services.scheduler.fleet import LiveProcesses, name_of
from services.scheduler.metrics import Metrics
from services.scheduler.session import ScheduledSession
from services.scheduler.state import Config, Estimates
from shared.planning.bandwidth_rules import BY_POLICY
from shared.planning.policies import make_policy
from shared.planning.windows import make_window
from shared.protocol.messages import (
    Draft,
    Finish,
    Heartbeat,
    Message,
    Resync,
    ResyncReason,
    Role,
    StagedRow,
    Status,
    Submit,
    Verdict,
)
from shared.protocol.session import SessionHead

E = TypeVar("E", bound=Effect)


def beat(role: Role, address: str, capacity: int = 8, load: int = 0, draft_us: int = 10_000) -> Heartbeat:
    name, _, generation = address.rpartition(":")
    return Heartbeat(
        role,
        name,
        int(generation),
        capacity=capacity,
        load=load,
        draft_us_per_token=draft_us,
        trees=role == "draft_worker",
    )


class Desk:
    """One core, the effects of its last tick, and the live processes."""

    def __init__(
        self,
        policy: str = "fixed-k",
        k: int = 4,
        max_rows: int = 8,
        prefill_tokens: int = 64,
        trace: bool = False,
        devices: Sequence[str | Heartbeat] = ("d:1",),
        verifiers: Sequence[str] = ("v:1",),
        window: str = "",
        passes: int = 1,
        trees: bool = False,
        bands: Mapping[str, float] | None = None,
        bandwidth: str = BY_POLICY,
    ) -> None:
        """passes: that each verifier may have under way; trees: whether it grows some itself. bands: of radio cells."""
        self._passes, self._trees = passes, trees
        config = Config("scheduler", 1, max_rows, prefill_tokens, 2.0, k, 2, trace, bands or {}, bandwidth)
        self.metrics = Metrics(CollectorRegistry())
        controller = make_window(window, k) if window else None
        self.core = Core(config, make_policy(policy, k), Estimates(), self.metrics, controller)
        self.now = 100.0
        self.effects: list[Effect] = []
        self._entries = 0
        self.fleet(devices, verifiers, trusted=False)

    # --- in ---------------------------------------------------------------------------------------------
    def fleet(
        self,
        devices: Sequence[str | Heartbeat] = ("d:1",),
        verifiers: Sequence[str] = ("v:1",),
        gateways: Sequence[str] = ("g:1",),
        trusted: bool = True,
    ) -> None:
        drafters = [d if isinstance(d, Heartbeat) else beat("draft_worker", d) for d in devices]
        cores = [replace(beat("verifier", v), passes=self._passes, trees=self._trees) for v in verifiers]
        gateway_beats = [beat("gateway", g) for g in gateways]
        self.core.update_fleet(LiveProcesses.of(drafters, cores, gateway_beats), self.now, trusted)
        self.tick()

    def take(self, *messages: Message, again: bool = False, size: int = 0) -> list[str]:
        """Handle all messages in one turn; returns their entry ids. size: bytes of each."""
        entries = []
        for message in messages:
            self._entries += 1
            entries.append(f"{self._entries}-0")
            self.core.handle(message, entries[-1], self.now, again, size)
        self.tick()
        return entries

    def tick(self, after: float = 0.0) -> None:
        self.now += after
        self.effects = self.core.tick(self.now)

    def submit(
        self, *names: str, prompt: int = 10, tokens: int = 50, device: str = "", deadline_ms: int = 60_000
    ) -> None:
        self.take(*(Submit(name, prompt, tokens, deadline_ms, "g:1", device) for name in names))

    def verdict(
        self,
        row: StagedRow,
        emitted: int = 1,
        accepted: int = 0,
        status: Status = "ok",
        finish: Finish = "",
        cached: int = 0,
        verify_us: int = 0,
        batch: int = 0,
    ) -> Verdict:
        """The verifier's answer to a row."""
        return Verdict(
            session=row.session,
            epoch=row.epoch,
            round=row.round,
            base_len=row.base_len,
            tokens=(),
            length=row.base_len + (emitted if status == "ok" else 0),
            drafted=len(row.tokens),
            accepted=accepted,
            next_k=row.next_k if status == "ok" and not finish else 0,
            finish=finish,
            status=status,
            cached_len=cached,
            batch=batch,
            verify_us=verify_us,
        )

    def draft(self, name: str, tokens: int = 4, **other: object) -> Draft:
        """What the session's device would send."""
        s = self.core.sessions[name]
        fields: dict[str, object] = {
            "session": name,
            "epoch": s.epoch,
            "round": s.round,
            "base_len": s.length,
            "device": s.device,
            "tokens": tuple(range(tokens)),
            "draft_us": 10_000 * tokens,
        }
        fields |= other
        fields.setdefault("survival", bytes(len(fields["tokens"])))  # type: ignore[arg-type]
        return Draft(**fields)  # type: ignore[arg-type]  # a test's own fields

    def resync(self, name: str, reason: ResyncReason, device: str = "") -> Resync:
        s = self.core.sessions[name]
        return Resync(name, s.epoch, device or s.device, s.length, reason)

    def head(self, name: str, **other: object) -> SessionHead:
        """The log head as the core assumes it, except for the fields given."""
        s = self.core.sessions[name]
        fields: dict[str, object] = {
            "session": name,
            "prompt_len": s.prompt_len,
            "max_tokens": s.max_tokens,
            "gateway": s.gateway,
            "device_wanted": "",
            "deadline_ms": 60_000,
            "epoch": s.epoch,
            "verifier": s.verifier,
            "device": s.device,
            "committed": s.committed,
            "finish": "",
        }
        return SessionHead(**{**fields, **other})  # type: ignore[arg-type]  # a test's own fields

    # --- out --------------------------------------------------------------------------------------------
    def did(self, kind: type[E]) -> list[E]:
        return [effect for effect in self.effects if isinstance(effect, kind)]

    @property
    def rows(self) -> list[StagedRow]:
        """All rows staged in the last tick."""
        return [row for stage in self.did(Stage) for row in stage.batch.rows]

    def row(self, name: str) -> StagedRow:
        (row,) = [row for row in self.rows if row.session == name]
        return row

    def sent(self, kind: type[Message]) -> list[tuple[str, Message]]:
        """(device, message) of this kind."""
        return [(e.device, e.message) for e in self.did(SendToDevice) if isinstance(e.message, kind)]

    def session(self, name: str) -> ScheduledSession:
        return self.core.sessions[name]

    def dropped(self, kind: str, reason: str) -> float:
        return self.count("dropped_messages", kind=kind, reason=reason)

    def count(self, name: str, **labels: str) -> float:
        value = self.metrics.registry.get_sample_value(f"outrider_scheduler_{name}_total", labels)
        return value or 0.0

    # --- a few moves at once ----------------------------------------------------------------------------
    def start(self, *names: str, **kwargs: int | str) -> None:
        """Submit sessions and prefill them until each waits for its first draft."""
        self.submit(*names, **kwargs)  # type: ignore[arg-type]
        while any(self.session(name).phase != "drafting" for name in names):
            self.take(*(self.prefilled(row) for row in self.rows))

    def prefilled(self, row: StagedRow) -> Verdict:
        """The verifier's answer to a chunk."""
        if row.feed_to == row.base_len:
            return self.verdict(row)
        return self.verdict(row, status="prefilled", cached=row.feed_to)

    def device_of(self, name: str) -> str:
        return name_of(self.session(name).device)
