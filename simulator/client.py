"""A client on virtual time: opens sessions at the simulated gateways and records their answers, as loadgen's does."""

import asyncio
from collections.abc import Callable, Sequence

from loadgen.request import ChatRequest, Chunk, Record
from services.gateway.session import Emitted, SessionRequest
from services.gateway.sessions import GatewaySessions, Unavailable
from shared.compute.modelled import STOP, expected_text
from shared.speculative.params import SamplingParams
from simulator.process import Incarnation


class SimulatedClient:
    """Sends requests to the gateways in turn. vocab: of the modelled target.

    wrong: answers that are not the modelled target's own text, each as a line. session_ids: of requests in flight.
    progressed_at: when a request began, got tokens or ended. on_end: called with every record that has ended.
    """

    def __init__(
        self,
        gateways: Callable[[], Sequence[tuple[GatewaySessions, Incarnation]]],
        vocab: int,
        request_s: float = 0.0,
    ) -> None:
        """gateways: those that live now, and their lives. request_s: from the send to a session's opening."""
        self.in_flight: dict[str, Record] = {}
        self.wrong: list[str] = []
        self.session_ids: dict[str, str] = {}
        self.progressed_at = 0.0
        self.on_end: Callable[[Record], None] | None = None
        self._gateways, self._vocab, self._request_s = gateways, vocab, request_s
        self._sent = 0

    def now(self) -> float:
        """Virtual seconds."""
        return asyncio.get_running_loop().time()

    async def complete(self, record: Record) -> None:
        """Send the record's request and read its answer into the record."""
        self.in_flight[record.request.id] = record
        self.progressed_at = self.now()
        try:
            await self._complete(record)
        except asyncio.CancelledError:
            record.fail("stopped", "the run ended first")
            raise
        finally:
            self.progressed_at = self.now()
            record.ended = record.ended or self.now()
            self.in_flight.pop(record.request.id, None)
            self.session_ids.pop(record.request.id, None)
            self._check(record)
            if self.on_end:
                self.on_end(record)

    async def _complete(self, record: Record) -> None:
        gateways = self._gateways()
        if not gateways:
            record.fail("connect", "no gateway is up")
            return
        self._sent += 1
        gateway, life = gateways[self._sent % len(gateways)]
        connection = life.spawn(self._read(record, gateway))  # it dies with the gateway
        try:
            await connection
        except asyncio.CancelledError:
            if life.alive or not connection.cancelled():
                raise
            record.fail("cut", "the gateway died")
        finally:
            connection.cancel()

    async def _read(self, record: Record, gateway: GatewaySessions) -> None:
        """Send the request and read its answer, as long as the connection lasts."""
        if self._request_s:
            await asyncio.sleep(self._request_s)
        try:
            stream = await gateway.open(self._session_request(record.request))
        except Unavailable as error:
            record.fail("http_503", str(error))
            return
        self.session_ids[record.request.id] = stream.members[0].spec.session
        try:
            async for event in stream:
                if not isinstance(event, Emitted):
                    record.fail("stream", f"{event.reason}: {event.message}")
                    return
                self._record(record, event)
        finally:
            stream.close()

    def _session_request(self, request: ChatRequest) -> SessionRequest:
        stop_ids = () if request.ignore_eos else (STOP,)
        return SessionRequest(
            self._prompt(request),
            self._sampling(request),
            request.max_tokens,
            stop_ids,
            device=request.device,
        )

    def _prompt(self, request: ChatRequest) -> tuple[int, ...]:
        if isinstance(request.prompt, str):
            raise TypeError("modelled targets read token ids: the load's prompts must be synthetic")
        return request.prompt

    def _sampling(self, request: ChatRequest) -> SamplingParams:
        return SamplingParams(
            seed=request.seed, vocab=self._vocab, temperature=request.temperature, top_p=request.top_p
        )

    def _record(self, record: Record, event: Emitted) -> None:
        self.progressed_at = self.now()
        record.chunks.append(Chunk(self.progressed_at, "", event.tokens, event.accepted))
        record.drafted_tokens += event.drafted
        record.accepted_tokens += event.accepted
        record.rounds += event.drafted > 0
        record.prompt_tokens = len(record.request.prompt)
        record.completion_tokens += len(event.tokens)
        record.finish = event.finish or record.finish

    def _check(self, record: Record) -> None:
        """Compare the answer, or what there is of it, with the target's text."""
        request, tokens = record.request, record.tokens
        expected = expected_text(self._prompt(request), self._sampling(request), len(tokens), stop_ids=())
        if tuple(tokens) != expected:
            at = next(i for i, pair in enumerate(zip(tokens, expected, strict=True)) if pair[0] != pair[1])
            self.wrong.append(f"{request.id}: token {at} of {len(tokens)} is not the target's")
