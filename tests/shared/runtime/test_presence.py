"""Heartbeats: a newer process displaces an older one, and nobody displaces itself."""

import pytest

from shared.broker.contract import LeaseLost
from shared.protocol.messages import Heartbeat
from shared.runtime.presence import Presence, Superseded


class Sink:
    """A broker that has seen `newest`. own: raises our own generation while a beat is under way."""

    def __init__(self, newest: int) -> None:
        self.newest, self.own = newest, 1
        self.registered_meanwhile = False

    async def beat(self, heartbeat: Heartbeat, ttl_s: float) -> None:
        if self.registered_meanwhile:
            self.own = self.newest
        if heartbeat.generation < self.newest:
            raise LeaseLost("newer")

    def heartbeat(self) -> Heartbeat:
        return Heartbeat("gateway", "g", self.own)


async def test_a_newer_process_of_the_name_supersedes_this_one() -> None:
    sink = Sink(newest=2)
    with pytest.raises(Superseded, match="a newer gateway has the name 'g'"):
        await Presence(sink, sink.heartbeat).beat()


async def test_a_beat_that_our_own_registration_overtakes_is_no_reason_to_stop() -> None:
    """After the broker has lost its data a process registers again while an earlier beat may be under way."""
    sink = Sink(newest=2)
    sink.registered_meanwhile = True
    await Presence(sink, sink.heartbeat).beat()
    assert sink.own == 2


async def test_a_process_that_registered_again_is_superseded_by_a_newer_one_still() -> None:
    sink = Sink(newest=3)
    sink.own = 2
    with pytest.raises(Superseded):
        await Presence(sink, sink.heartbeat).announce()
