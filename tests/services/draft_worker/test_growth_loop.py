"""The loop that grows trees: orders between decodes, how the drafter is used, and a model that does not load."""

import asyncio
from dataclasses import replace

from prometheus_client import CollectorRegistry

from services.draft_worker.grown_trees import Grow, Nodes, StopGrowing
from services.draft_worker.growth_loop import GrowthLoop, TreeTurn
from services.draft_worker.metrics import Metrics
from shared.compute.compute import InlineCompute
from shared.compute.modelled import expected_text
from shared.compute.modelled_tree_drafter import ModelledTreeDrafter
from shared.protocol.messages import Close, Draft, Open, Resync, Verdict
from shared.speculative.params import SamplingParams
from simulator.virtual_loop import run_virtual
from tests.services.draft_worker.worker_world import PROMPT, VOCAB, World, play, verdict

SAMPLING = SamplingParams(7, VOCAB)
TEXT = expected_text(PROMPT, SAMPLING, 20)


class NotedDrafter(ModelledTreeDrafter):
    """Notes how it is used."""

    def __init__(self) -> None:
        super().__init__(draft_ms=8, vocab=VOCAB, capacity=2)
        self.forgotten: list[str] = []
        self.closed = False

    def forget(self, session: str) -> None:
        self.forgotten.append(session)
        super().forget(session)

    def close(self) -> None:
        self.closed = True


def grow(*committed: int, session: str = "s", tree: int = 0) -> Grow:
    ids = (*PROMPT, *committed)
    return Grow(session, ids, SAMPLING, tree or len(ids))


class Scene:
    """A loop with its drafter, and what its turns have found."""

    def __init__(self, drafter: NotedDrafter | None = None, fails: bool = False) -> None:
        self.drafter, self.loads = drafter or NotedDrafter(), 0
        self._fails = fails
        self.registry = CollectorRegistry()
        self.loop = GrowthLoop(self._make, InlineCompute(), Metrics(self.registry))

    def _make(self) -> NotedDrafter:
        self.loads += 1
        if self._fails:
            raise MemoryError("no room for a second model")
        return self.drafter

    async def turns(self, count: int) -> list[Nodes]:
        """So many turns; each must end by itself."""
        found: list[Nodes] = []
        for _ in range(count):
            found += (await asyncio.wait_for(self.loop.turn(), 1.0)).nodes
        return found

    async def waits(self) -> bool:
        """Whether there is nothing to do. The bell may have rung for what is done."""
        for _ in range(2):
            turn = asyncio.ensure_future(self.loop.turn())
            await asyncio.sleep(1.0)
            if not turn.done():
                turn.cancel()
                return True
            assert turn.result() == TreeTurn()
        return False


def test_levels_are_grown_and_numbered_and_the_model_is_loaded_once_when_it_is_needed() -> None:
    async def scene() -> None:
        one = Scene()
        assert await one.waits()
        assert one.loads == 0
        one.loop.order(grow())
        found = await one.turns(4)
        assert [nodes.first_node for nodes in found] == [0, 3, 9][: len(found)]
        assert all(nodes.hangs_from == len(PROMPT) and nodes.draft_us for nodes in found)
        assert one.loads == 1
        assert one.loop.busy_us > 20_000
        drafted = one.registry.get_sample_value("outrider_device_drafted_tokens_total")
        assert drafted == sum(len(nodes.tokens) for nodes in found)

    run_virtual(scene())


def test_orders_that_come_during_a_decode_are_applied_after_it() -> None:
    async def scene() -> None:
        one = Scene()
        one.loop.order(grow())
        (first,) = await one.turns(2)
        decode = asyncio.ensure_future(one.loop.turn())
        await asyncio.sleep(0.001)
        one.loop.order(grow(first.tokens[0], tree=len(PROMPT)))
        (second,) = (await decode).nodes
        assert second.parents == (0, 0, 0, 1, 1, 1)
        assert await one.turns(1) == []
        (third,) = await one.turns(1)
        assert third.first_node == 9
        assert set(third.parents) <= {3, 4, 5}  # children of the new root

    run_virtual(scene())


def test_what_is_still_alive_is_sent_again_when_the_tree_is_another() -> None:
    async def scene() -> None:
        one = Scene()
        one.loop.order(grow())
        first, second = await one.turns(3)
        right = next(token for token in first.tokens if token == TEXT[0])
        one.loop.order(grow(right))
        again = await one.turns(1)
        assert [(nodes.hangs_from, nodes.first_node) for nodes in again] == [(len(PROMPT) + 1, 0)]
        assert set(again[0].tokens) <= set(second.tokens)

    run_virtual(scene())


def test_a_session_that_stops_is_forgotten_and_may_begin_again() -> None:
    async def scene() -> None:
        one = Scene()
        one.loop.order(grow())
        one.loop.order(grow(session="t"))
        await one.turns(3)
        one.loop.order(StopGrowing("s"))
        one.loop.order(StopGrowing("unknown"))
        one.loop.order(grow(5))
        (nodes,) = [nodes for nodes in await one.turns(2) if nodes.session == "s"]
        assert one.drafter.forgotten == ["s"]
        assert (nodes.first_node, nodes.hangs_from) == (0, len(PROMPT) + 1)

    run_virtual(scene())


def test_all_are_dropped_when_the_incarnation_ends() -> None:
    async def scene() -> None:
        one = Scene()
        one.loop.order(grow())
        await one.turns(2)
        one.loop.order(grow(5))
        one.loop.drop_all()
        assert await one.turns(1) == []
        assert (one.drafter.forgotten, one.drafter.sessions()) == (["s"], frozenset())
        assert await one.waits()
        one.loop.set_threads(3)
        one.loop.order(grow(5, 6))
        (nodes,) = await one.turns(2)
        assert (nodes.first_node, one.drafter.threads) == (0, 3)
        await one.loop.close()
        assert one.drafter.closed

    run_virtual(scene())


def test_nothing_is_loaded_to_forget() -> None:
    async def scene() -> None:
        one = Scene()
        one.loop.order(grow())
        one.loop.order(StopGrowing("s"))
        await one.turns(2)
        assert (one.loads, one.drafter.forgotten) == (0, [])
        await one.loop.close()

    run_virtual(scene())


def test_a_drafter_without_room_says_why_and_the_others_go_on() -> None:
    async def scene() -> None:
        one = Scene()
        for name in ("a", "b", "c"):  # room for two
            one.loop.order(grow(session=name))
        found = await one.turns(6)
        assert {nodes.session for nodes in found} == {"a", "b"}

    run_virtual(scene())


def test_a_device_whose_tree_model_does_not_load_goes_on_without_trees() -> None:
    """A second model may be too much for a small machine; chains are drafted all the same."""

    async def scene() -> None:
        one = Scene(fails=True)
        one.loop.order(grow())
        assert await one.turns(2) == []
        assert await one.waits()
        one.loop.order(grow(5))
        assert await one.waits()
        assert one.loads == 1
        await one.loop.close()

    run_virtual(scene())


def test_a_device_without_a_tree_drafter_grows_none() -> None:
    async def scene() -> None:
        loop = GrowthLoop(None, InlineCompute(), Metrics(CollectorRegistry()))
        loop.order(grow())
        turn = asyncio.ensure_future(loop.turn())
        await asyncio.sleep(1.0)
        assert not turn.done()
        turn.cancel()

    run_virtual(scene())


# --- a whole device ---------------------------------------------------------------------------------------
def kept(base: int, *tokens: int, tree: int = 0) -> Verdict:
    said = verdict(base, tokens, next_k=0)
    return replace(said, keeps=True, tree=tree or said.length)


def test_a_device_grows_sends_stops_and_drafts_a_chain_again() -> None:
    async def scene(world: World) -> None:
        await world.start()
        await world.opened()
        await world.send(kept(24, TEXT[0]))
        nodes = [message for message in await world.replies() if isinstance(message, Draft)]
        assert nodes[0].first_node == 0
        count = 0
        for message in nodes:
            assert (message.base_len, message.device, message.first_node) == (25, world.address, count)
            count += len(message.tokens)
        assert world.trees.sessions() == {"s"}
        await world.send(verdict(25, (TEXT[1],)))
        (chain,) = await world.replies()
        assert isinstance(chain, Draft)
        assert (chain.first_node, len(chain.tokens)) == (-1, 4)
        assert world.trees.sessions() == frozenset()

    play(scene)


def test_a_tree_ends_with_its_session_with_a_gap_and_with_the_device() -> None:
    async def scene(world: World) -> None:
        await world.start()
        await world.opened()
        await world.opened("t")
        await world.send(kept(24, TEXT[0]), replace(kept(24, TEXT[0]), session="t"))
        await world.replies()
        assert world.trees.sessions() == {"s", "t"}
        await world.send(Close("t", 1, "stop"))
        await world.send(kept(40, 1))
        assert Resync("s", 1, world.address, 25, "gap") in await world.replies()
        assert world.trees.sessions() == frozenset()
        await world.send(Open("s", 1, 25))
        await world.replies()
        await world.send(kept(25, TEXT[1]))
        assert await world.replies()

    play(scene)


class SmallWorld(World):
    """A device on which the model does not load a second time."""

    def make_trees(self) -> ModelledTreeDrafter:
        raise MemoryError("no room for a second model")


def test_a_device_whose_tree_model_does_not_load_gives_back_one_session_and_drafts_chains() -> None:
    async def scene(world: World) -> None:
        await world.start()
        await world.submit()
        await world.send(Open("s", 1, 24, trees=True))
        assert await world.replies() == [Resync("s", 1, world.address, 24, "no_capacity")]
        await world.send(Open("s", 2, 24, trees=True))
        assert await world.replies() == [Resync("s", 2, world.address, 24, "ready")]
        await world.send(replace(verdict(24, (TEXT[0],)), epoch=2))
        (chain,) = await world.replies()
        assert isinstance(chain, Draft)
        assert (chain.first_node, len(chain.tokens)) == (-1, 4)
        await world.send(replace(kept(25, TEXT[1]), epoch=2))  # the target goes on alone
        assert await world.replies() == []

    play(scene, SmallWorld)
