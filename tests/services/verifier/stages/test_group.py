"""Ranks find each other, here over real sockets: who is missing, who is too many, and another group after one."""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing

import pytest
import torch

from services.verifier.stages import rendezvous
from services.verifier.stages.gloo_link import GlooInbound
from services.verifier.stages.group import GlooLinks, join
from services.verifier.stages.link import LinkBroken
from services.verifier.stages.member import Member, member
from services.verifier.stages.messages import Beat, End, Failed
from services.verifier.stages.rendezvous import Rendezvous, own_address
from shared.broker.embedded import HOST, free_port
from shared.compute.compute import ThreadCompute
from shared.runtime.settings import SettingsError

WAIT_S = 60.0


class Process:
    """What a process of one rank does to join."""

    def __init__(self, me: Member, token: str = "") -> None:
        self.me = me
        self.compute = ThreadCompute(f"rank {me.rank}")
        self.meeting = Rendezvous(me, token or f"token{me.rank}")
        self.heard: list[str] = []

    async def join(self, wait_s: float = WAIT_S) -> GlooLinks:
        return await join(self.me, self.meeting, self.compute, wait_s, self.heard.append)

    async def leave(self, links: GlooLinks, notice: Failed | None = None) -> None:
        await links.leave(notice)
        self.meeting.leave()


def processes(world: int, port: int = 0, address: str = HOST) -> list[Process]:
    port = port or free_port()
    return [Process(Member(rank, world, address, port)) for rank in range(world)]


@asynccontextmanager
async def joined(ranks: Sequence[Process]) -> AsyncIterator[list[GlooLinks]]:
    links = await asyncio.gather(*(one.join() for one in ranks))
    yield list(links)
    await asyncio.gather(*(one.leave(link) for one, link in zip(ranks, links, strict=True)))


async def goes_round(links: Sequence[GlooLinks]) -> None:
    """A message runs around the ring."""
    for rank, link in enumerate(links):
        receiving = links[(rank + 1) % len(links)].inbound.receive(WAIT_S)
        _, message = await asyncio.gather(link.outbound.send(Beat(rank)), receiving)
        assert message == Beat(rank)


async def test_ranks_join_in_any_order_and_messages_go_round() -> None:
    async with joined(processes(3)[::-1]) as links:
        await goes_round(links[::-1])
        assert links[0].outbound.sent_bytes > 0


async def test_those_that_are_left_join_the_next_group_with_a_new_one() -> None:
    first, second, third = ranks = processes(3)
    links = await asyncio.gather(*(one.join() for one in ranks))
    for one, link in zip(ranks, links, strict=True):
        await one.leave(link)
    for attempt in ("after", "and again"):
        async with joined([first, second, Process(third.me, attempt.replace(" ", ""))]) as again:
            await goes_round(again)


async def test_a_new_rank_0_at_the_same_port_is_joined() -> None:
    front, *stages = processes(3)
    links = await asyncio.gather(*(one.join() for one in (front, *stages)))
    for one, link in zip((front, *stages), links, strict=True):
        await one.leave(link)
    joining = [asyncio.create_task(one.join()) for one in stages]
    front.meeting._server = front.meeting._store = None  # as with its process
    assert [why for one in stages for why in one.heard if "rank" in why]
    newer = Process(front.me, "newer")
    again = await asyncio.gather(newer.join(), *joining)
    await goes_round(again)
    for one, link in zip((newer, *stages), again, strict=True):
        await one.leave(link)


async def test_a_missing_rank_is_named_by_all_that_wait() -> None:
    front, stage, _ = processes(3)
    lost = await asyncio.gather(front.join(2.0), stage.join(1.5), return_exceptions=True)
    assert [type(error) for error in lost] == [LinkBroken, LinkBroken]
    assert "rank 0 has waited 2 s (OUTRIDER_STAGE_WAIT_S) for rank 2; start what is missing" in str(lost[0])
    assert "rank 1 has waited 1.5 s (OUTRIDER_STAGE_WAIT_S) for rank 2;" in str(lost[1])


async def test_a_rank_that_died_while_it_waited_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "FRESH_S", 0.3)
    front, stage, dead = processes(3)
    async with asyncio.timeout(WAIT_S):
        opening = asyncio.create_task(front.join(1.5))
        while await dead.compute.run(lambda: dead.meeting.wait_for(0.0)) in ("", "rank 0"):
            await asyncio.sleep(0.05)
        late = asyncio.create_task(stage.join(10.0))  # when the one that died is not fresh any more
        with pytest.raises(LinkBroken, match="for rank"):
            await opening
        late.cancel()


@pytest.mark.parametrize("late", [False, True])
async def test_a_second_process_of_a_rank_is_told_and_disturbs_nobody(
    late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rendezvous, "LATE_S", 0.3)
    ranks = processes(2)
    twins = [ranks[1], Process(ranks[1].me, "twin")]
    first = asyncio.create_task(ranks[0].join())
    joining = [asyncio.create_task(twins[0].join())]
    if late:
        await asyncio.wait(joining)
    joining.append(asyncio.create_task(twins[1].join()))
    links = [await first]
    results = await asyncio.gather(*joining, return_exceptions=True)
    (refused,) = [one for one in results if isinstance(one, BaseException)]
    assert isinstance(refused, LinkBroken)
    assert "rank 1 is in the group already, as another process" in str(refused)
    assert "RANK of its own" in str(refused)
    links += [one for one in results if isinstance(one, GlooLinks)]
    await goes_round(links)
    for link in links:
        await link.leave(None)


async def test_another_number_of_ranks_is_refused() -> None:
    front, _ = processes(2)
    other = Process(Member(1, 3, HOST, front.me.port))
    opening = asyncio.create_task(front.join())
    with pytest.raises(
        SettingsError, match="rank 1: WORLD_SIZE=3, but rank 0 has 2; give all ranks the same"
    ):
        await other.join()
    opening.cancel()
    await asyncio.gather(opening, return_exceptions=True)


@pytest.mark.parametrize("address", ["192.0.2.1", "nowhere.invalid"])
async def test_an_address_that_leads_nowhere_is_named(address: str) -> None:
    (_, stage) = processes(2, address=address)
    with pytest.raises(LinkBroken, match=f"rank 1 has waited 0.1 s .*rank 0, which is not at {address}:"):
        await stage.join(0.1)


async def test_a_port_that_is_taken_is_named() -> None:
    with closing(socket.create_server((HOST, 0))) as other:
        port = other.getsockname()[1]
        front, stage = processes(2, port)
        with pytest.raises(
            SettingsError, match=f"MASTER_PORT={port}: cannot listen: Address already in use.*; choose"
        ):
            await front.join()
        with pytest.raises(
            LinkBroken, match=f"rank 1 .* for an answer of rank 0 at {HOST}:{port}; another program"
        ):
            await stage.join(0.1)


async def test_a_notice_reaches_the_next_rank() -> None:
    ranks = processes(3)
    links = await asyncio.gather(*(one.join() for one in ranks))
    waiting = asyncio.create_task(links[2].inbound.receive(WAIT_S))
    await ranks[1].leave(links[1], notice := Failed(1, "its process ends"))
    assert await waiting == notice
    with pytest.raises(LinkBroken, match="rank 1 is gone or silent"):
        await links[2].inbound.receive(WAIT_S)
    with pytest.raises(LinkBroken, match="this process has left the group"):
        links[1].inbound._receive(1.0)
    for rank in (0, 2):
        await ranks[rank].leave(links[rank])


async def test_a_silent_neighbour_is_named() -> None:
    async with joined(processes(2)) as links:
        with pytest.raises(LinkBroken, match="rank 1 is gone or silent"):
            await links[0].inbound.receive(0.01)


class Lying:
    """A process group whose neighbour announces this many bytes."""

    def __init__(self, length: int) -> None:
        self._length = length

    def recv(self, tensors: list[torch.Tensor], *_: int) -> "Lying":
        tensors[0].fill_(self._length)
        return self

    def send(self, *_: object) -> "Lying":
        return self

    def wait(self, _: object) -> bool:
        return True


@pytest.mark.parametrize("length", [0, -1, 1 << 40])
async def test_an_absurd_length_is_refused(length: int) -> None:
    with pytest.raises(LinkBroken, match=f"rank 3 announced a message of {length} bytes"):
        await GlooInbound(Lying(length), 3).receive(1.0)


ENVIRON = {"RANK": "1", "WORLD_SIZE": "3", "MASTER_ADDR": HOST, "MASTER_PORT": "29500"}


def test_a_member_by_its_environment() -> None:
    assert member(2, ENVIRON) == Member(1, 3, HOST, 29500)
    assert member(2, {**ENVIRON, "TORCHELASTIC_RUN_ID": "none"}).elastic


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"RANK": None}, "RANK is not set; start 3 processes with torchrun"),
        ({"MASTER_ADDR": None}, "MASTER_ADDR is not set"),
        ({"MASTER_ADDR": " "}, "rank 1: MASTER_ADDR is empty"),
        ({"RANK": "one"}, "must be numbers"),
        ({"RANK": "3"}, "RANK=3: must be from 0 to 2"),
        ({"RANK": "-1"}, "RANK=-1: must be from 0 to 2"),
        ({"WORLD_SIZE": "2"}, "rank 1: OUTRIDER_STAGES=2 needs WORLD_SIZE=3"),
        ({"MASTER_PORT": "0"}, "rank 1: MASTER_PORT=0: must be from 1 to 65535"),
        ({"MASTER_PORT": "65536"}, "MASTER_PORT=65536"),
    ],
)
def test_a_wrong_environment_is_named(changed: dict[str, str | None], line: str) -> None:
    environ = {name: value for name, value in {**ENVIRON, **changed}.items() if value is not None}
    with pytest.raises(SettingsError, match=line):
        member(2, environ)


def test_the_address_on_the_way_to_rank_0() -> None:
    assert own_address(HOST, 29500) == HOST
    assert own_address("nowhere.invalid", 29500) == ""


async def test_the_end_of_a_group_is_a_message_like_others() -> None:
    async with joined(processes(2)) as links:
        _, message = await asyncio.gather(links[0].outbound.send(End()), links[1].inbound.receive(WAIT_S))
        assert message == End()
