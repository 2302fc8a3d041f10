"""Time limits of connections, on a virtual clock."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from shared.runtime.connection import Connection, ConnectionBounds
from simulator.virtual_loop import run_virtual

BOUNDS = ConnectionBounds(connections=1, header_s=10.0, idle_s=75.0, write_s=30.0)


class Wire(asyncio.Transport):
    """A fake transport. The test sets its unsent bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.unsent = 0
        self.written = b""
        self.closed_at: float | None = None
        self.aborted = False

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def is_closing(self) -> bool:
        return self.closed_at is not None

    def close(self) -> None:
        self.closed_at = asyncio.get_running_loop().time()

    def abort(self) -> None:
        self.close()
        self.aborted = True


class Rig:
    """A connection on a fake transport, with an inner protocol that does nothing."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.wire = Wire()
        self.connection = Connection(asyncio.Protocol(), BOUNDS, lambda _: None, lambda _: None, self._count)
        self.connection.connection_made(self.wire)

    def _count(self, bound: str) -> None:
        self.counts[bound] += 1

    def receive_request(self) -> None:
        """A whole request has come, and is being handled."""
        self.connection.data_received(b"GET / HTTP/1.1\r\n\r\n")
        self.connection.began(whole=True)


def test_the_first_request_has_the_headers_time_from_the_beginning_on() -> None:
    async def main() -> None:
        rig = Rig()
        await asyncio.sleep(9)
        rig.connection.data_received(b"GET / HT")
        await asyncio.sleep(20)
        assert rig.wire.closed_at == pytest.approx(10)
        assert rig.wire.written.startswith(b"HTTP/1.1 408 ")
        assert rig.counts == {"header_timeout": 1}

    run_virtual(main())


def test_a_later_one_has_it_from_its_first_byte_on() -> None:
    async def main() -> None:
        rig = Rig()
        rig.receive_request()
        await asyncio.sleep(100)  # in its handler
        rig.connection.ended()
        await asyncio.sleep(50)
        assert rig.wire.closed_at is None
        for _ in range(20):
            rig.connection.data_received(b"X")
            await asyncio.sleep(1)
        assert rig.wire.closed_at == pytest.approx(160)

    run_virtual(main())


def test_a_client_that_reads_nothing_is_gone_one_that_reads_a_little_is_not() -> None:
    async def main(reads: int) -> float | None:
        rig = Rig()
        rig.receive_request()
        rig.wire.unsent = 100_000
        rig.connection.pause_writing()
        for _ in range(20):
            await asyncio.sleep(10)
            rig.wire.unsent -= reads
        return rig.wire.closed_at if rig.wire.aborted else None

    assert run_virtual(main(0)) == pytest.approx(30)
    assert run_virtual(main(10)) is None


def test_what_a_handler_adds_once_more_is_no_sign_of_reading() -> None:
    """A handler may write a little more before it blocks."""

    async def main() -> None:
        rig = Rig()
        rig.receive_request()
        rig.wire.unsent = 70_000
        rig.connection.pause_writing()
        await asyncio.sleep(5)
        rig.wire.unsent += 60_000
        await asyncio.sleep(100)
        assert rig.wire.aborted
        assert rig.wire.closed_at == pytest.approx(60)

    run_virtual(main())


def test_a_reader_that_catches_up_has_all_the_time_again() -> None:
    async def main() -> None:
        rig = Rig()
        rig.receive_request()
        for _ in range(5):
            rig.wire.unsent = 70_000
            rig.connection.pause_writing()
            await asyncio.sleep(29)
            rig.wire.unsent = 0
            rig.connection.resume_writing()
        await asyncio.sleep(100)
        assert rig.wire.closed_at is None

    run_virtual(main())


def test_the_end_of_an_answer_has_to_be_read_too() -> None:
    """Less than makes the transport pause: nothing else would ever close it."""

    async def main() -> None:
        rig = Rig()
        rig.receive_request()
        rig.wire.unsent = 5_000
        rig.connection.ended()
        await asyncio.sleep(100)
        assert rig.wire.aborted
        assert rig.wire.closed_at == pytest.approx(30)
        assert rig.counts == {"write_timeout": 1}

    run_virtual(main())


def test_only_who_has_yet_to_send_something_is_expendable() -> None:
    async def main() -> None:
        rig = Rig()
        states = [rig.connection.expendable]  # nothing has come
        rig.connection.data_received(b"POST / HT")
        states.append(rig.connection.expendable)  # half a header
        rig.connection.began(whole=False)
        states.append(rig.connection.expendable)  # half a body
        rig.connection.received()
        states.append(rig.connection.expendable)  # being served
        rig.wire.unsent = 10
        rig.connection.ended()
        states.append(rig.connection.expendable)  # its answer is on the way
        rig.wire.unsent = 0
        states.append(rig.connection.expendable)  # kept
        assert states == [True, True, True, False, False, True]

    run_virtual(main())
