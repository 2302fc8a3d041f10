"""Sessions, commit rows and the receivers of verdicts, for tests of the session log."""

from dataclasses import replace
from typing import Any

from shared.broker.contract import Broker, CommitRow
from shared.protocol import wire
from shared.protocol.messages import (
    Cancel,
    Submit,
    Verdict,
)
from shared.protocol.session import SessionSpec
from shared.speculative.params import SamplingParams
from tests.shared.broker.worlds import World

PROMPT = (5, 6, 7, 8)
GATEWAY, DEVICE = "gw:1", "pi:2"


def spec_of(session: str = "s1", **changes: Any) -> SessionSpec:
    sampling = SamplingParams(seed=2**64 - 1, vocab=100, temperature=0.7, top_k=40, top_p=0.9)
    spec = SessionSpec(session, PROMPT, sampling, 64, (2,), GATEWAY, 60_000, logprobs=2, device="pi")
    return replace(spec, **changes)


def submit_of(spec: SessionSpec) -> Submit:
    return Submit(
        spec.session, len(spec.prompt), spec.max_tokens, spec.deadline_ms, spec.gateway, spec.device
    )


async def open_session(broker: Broker, session: str = "s1", **changes: Any) -> None:
    spec = spec_of(session, **changes)
    assert await broker.sessions.submit(spec, submit_of(spec))


def row(base_len: int, *tokens: int, session: str = "s1", epoch: int = 0, **changes: Any) -> CommitRow:
    device, gateway = changes.pop("device", DEVICE), changes.pop("gateway", GATEWAY)
    verdict = Verdict(
        session,
        epoch,
        9,
        base_len,
        tokens,
        base_len + len(tokens),
        drafted=4,
        accepted=2,
        next_k=3,
        stop_below=77,
        batch=17,
        fused_drafted=2,
        fused_accepted=1,
    )
    return CommitRow(replace(verdict, **changes), device, gateway)


class Receivers:
    """The messages that each receiver of verdicts was sent since the last call."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._last = {"device": "0", "gateway": "0", "scheduler": "0"}

    async def received(self, receiver: str) -> list[Any]:
        keys = self._world.keys
        stream = {"device": keys.inbox(DEVICE), "gateway": keys.reply(GATEWAY), "scheduler": keys.verdicts}
        entries = await self._world.broker.streams.read_inbox(stream[receiver], self._last[receiver], 9999, 0)
        if entries:
            self._last[receiver] = entries[-1].id
        return [wire.decode(entry.data) for entry in entries]

    async def all(self) -> tuple[list[Any], list[Any], list[Any]]:
        return await self.received("device"), await self.received("gateway"), await self.received("scheduler")


def cancel(n: int) -> Cancel:
    """A short message."""
    return Cancel(f"s{n}")


def bare(verdict: Verdict) -> Verdict:
    return replace(verdict, tokens=(), logprobs=())
