"""A stage of a live pipeline: it sleeps as long as its law says, and routes real tensors. Runs on any event loop."""

import asyncio
from math import ceil
from typing import Final

from cli.bench.pipeline.live.group import Peer
from cli.bench.pipeline.live.hidden import embed, passed, to_bytes, to_tensor
from cli.bench.pipeline.live.living import LivingRows
from cli.bench.pipeline.live.packets import Decided, End, Packet, Piece, Report, Turn, TurnOver
from cli.bench.pipeline.live.ports import QUEUE, CountingOutbound, Receiver, Sender, alongside
from services.verifier.stages.link import Inbound, LinkBroken
from shared.planning.pieces import PipelineLaw
from simulator.pipeline.timeline import Pass

NOTHING: Final = Piece((), held=True)


class LiveStage:
    """Stage `number`, from 1. Rows of whose death it has heard are left out, between two layers if need be."""

    def __init__(
        self, number: int, law: PipelineLaw, inbound: Inbound, outbound: CountingOutbound, rank_zero: Peer
    ) -> None:
        """inbound, outbound: of the ring. rank_zero: for turns."""
        self._number, self._law = number, law
        self._receiver = Receiver(inbound, law.hop_ms, law.wire_ms)
        self._sender = Sender(outbound)
        self._commands = Receiver(rank_zero.inbound, law.hop_ms, 0.0)
        self._answers = Sender(rank_zero.outbound)
        self._inbox: asyncio.Queue[Packet] = asyncio.Queue(QUEUE)
        self._held: asyncio.Queue[Piece] = asyncio.Queue(QUEUE)  # of the turns to come
        self._held.put_nowait(NOTHING)
        self._living = LivingRows()
        self._heard = asyncio.Event()
        self._passes: list[Pass] = []
        self._counted = (0, 0)  # messages and bytes that were reported

    async def run(self) -> None:
        """Serve until an End. Raises LinkBroken, RingMessageError."""
        links = (self._receiver, self._sender, self._commands, self._answers)
        await alongside(self._serve(), self._read(), self._take_turns(), *(link.run() for link in links))

    async def _read(self) -> None:
        """Hear of decisions at once; everything else waits for its turn."""
        last = self._number == len(self._law.stages)
        while True:
            packet = await self._receiver.next()
            if isinstance(packet, Decided):
                if not last:
                    self._sender.post(packet)
                self._living.decide(packet.user, packet.root)
                self._heard.set()
                continue
            if isinstance(packet, Piece):
                self._living.add(packet.rows)
            if isinstance(packet, Piece) and packet.held:
                await self._held.put(packet)
            else:
                await self._inbox.put(packet)

    async def _serve(self) -> None:
        """Piece after piece."""
        while True:
            packet = await self._inbox.get()
            match packet:
                case Piece():
                    self._sender.post(await self._pass(packet))
                case Report():
                    await self._report(packet)
                case End():
                    self._sender.post(packet)
                    await self._sender.flush()
                    return
                case _:
                    self._sender.post(packet)

    async def _take_turns(self) -> None:
        """Turn after turn. The piece that this stage holds may arrive a little after the turn has begun."""
        while True:
            packet = await self._commands.next()
            match packet:
                case Decided():
                    self._living.decide(packet.user, packet.root)
                case Turn():
                    self._sender.post(await self._pass(await self._held.get()))
                    self._answers.post(TurnOver())
                case End():
                    self._answers.post(packet)
                    return
                case _:
                    raise LinkBroken(f"a {type(packet).__name__} outside the ring")

    async def _pass(self, piece: Piece) -> Piece:
        """The piece after this stage, without the rows that were dead before its end."""
        begin = asyncio.get_running_loop().time()
        hidden = embed(piece.rows) if self._number == 1 else to_tensor(piece.hidden, len(piece.rows))
        kept = self._alive(piece, range(len(piece.rows)))
        if kept:
            kept = await self._compute(piece, kept)
            end = asyncio.get_running_loop().time()
            dropped = len(piece.rows) - len(kept)
            self._passes.append(Pass(self._number, begin, end, len(kept), dropped))
        rows = tuple(piece.rows[at] for at in kept)
        return Piece(rows, to_bytes(passed(hidden, kept)), piece.held)

    async def _compute(self, piece: Piece, kept: list[int]) -> list[int]:
        """Sleep layer by layer in so far as decisions arrive; the rows that were alive to the end."""
        loop, law, left = asyncio.get_running_loop(), self._law, self._law.layers
        while left and kept:
            layer_s = law.stages[self._number - 1].pass_ms(len(kept)) / 1e3 / law.layers
            began = loop.time()
            self._heard.clear()
            timer = loop.call_at(began + left * layer_s, self._heard.set)
            await self._heard.wait()
            timer.cancel()
            done = min(left, max(1, ceil((loop.time() - began) / layer_s - 1e-6)))
            await asyncio.sleep(max(0.0, began + done * layer_s - loop.time()))  # the layer that was begun
            left -= done
            if left:
                kept = self._alive(piece, kept)
        return kept

    def _alive(self, piece: Piece, kept: "range | list[int]") -> list[int]:
        return [at for at in kept if piece.rows[at] in self._living]

    async def _report(self, report: Report) -> None:
        """Add what this stage did since the last report, and forget it. The report itself is not counted."""
        messages, size = await self._sent()
        added = Report(
            (*report.passes, *self._passes),
            report.messages + messages - self._counted[0],
            report.bytes + size - self._counted[1],
        )
        self._passes.clear()
        self._living.clear()
        while not self._held.empty():
            self._held.get_nowait()
        self._held.put_nowait(NOTHING)
        self._sender.post(added)
        self._counted = await self._sent()

    async def _sent(self) -> tuple[int, int]:
        """Messages and bytes so far, of links that have taken all that was posted."""
        await self._sender.flush()
        await self._answers.flush()
        return self._sender.messages + self._answers.messages, self._sender.bytes + self._answers.bytes
