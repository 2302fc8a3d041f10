"""Which process answers at a broker's port."""

import asyncio
from pathlib import Path

import pytest

from cli.stack.access import Access
from shared.broker.embedded import EmbeddedBroker, NotABroker, free_port, server_pid

HOST = "127.0.0.1"


async def test_the_server_says_which_process_it_is() -> None:
    async with EmbeddedBroker() as broker:
        pid = await server_pid(HOST, broker.port)
        assert broker._process is not None
        assert pid == broker._process.pid
    assert await server_pid(HOST, broker.port) is None


async def test_with_passwords_it_says_so_to_a_user_alone(tmp_path: Path) -> None:
    access = Access(tmp_path)
    access.prepare()
    password = access.password_file("gateway").read_text().strip()
    async with EmbeddedBroker(access_list=str(access.acl_file)) as broker:
        assert broker._process is not None
        assert await server_pid(HOST, broker.port, "gateway", password) == broker._process.pid
        with pytest.raises(NotABroker, match="WRONGPASS"):
            await server_pid(HOST, broker.port, "gateway", "another")
        with pytest.raises(NotABroker, match="NOAUTH"):
            await server_pid(HOST, broker.port)


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"$x\r\n", b"$5\r\nhello\r\n", b"+OK\r\n", b"z" * 100_000],
    ids=["web server", "no size", "no process", "another kind", "no line"],
)
async def test_a_program_that_is_no_broker_is_reported(answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(answer)
        await writer.drain()
        writer.close()

    port = free_port()
    async with await asyncio.start_server(serve, HOST, port):
        with pytest.raises(NotABroker):
            await server_pid(HOST, port)


async def test_a_connection_that_breaks_off_is_no_answer() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"$50\r\nproc")
        await writer.drain()
        writer.close()

    port = free_port()
    async with await asyncio.start_server(serve, HOST, port):
        assert await server_pid(HOST, port) is None
