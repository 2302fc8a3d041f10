"""A local stack: exclusive start, processes that are given up, and proof that servers belong to it."""

import asyncio
import errno
import io
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from cli.command.errors import CommandError, ProcessFailed
from cli.stack.ports import Claim
from cli.stack.processes import BACKOFF_S, MAX_DEATHS
from cli.stack.stack import UNREADY_STOP_S, LocalStack, Ports, access_of
from shared.broker.connections import Connections
from shared.runtime.stack_state import StateError, read_state, state_file
from tests.cli.stack.fakes import SERVICE, fake_stack, python

LIMIT_S = 60.0  # far below the time that a stack waits for a process to become ready
ILLEGAL = "import os, signal; print('drafting', flush=True); os.kill(os.getpid(), signal.SIGILL)"


@asynccontextmanager
async def web_server(port: int) -> AsyncIterator[None]:
    """A foreign web server."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", port):
        yield


async def request_page(stack: LocalStack, name: str, path: str) -> None:
    """Request a page of a fake service, which may exit instead of answering."""
    url = stack.processes[name].spec.ready_url.replace("/readyz", path)
    async with aiohttp.ClientSession() as session:
        try:
            async with session.get(url):
                pass
        except aiohttp.ClientError:
            pass


@pytest.fixture(autouse=True)
def _look_briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock that is held in these tests stays held, so a claim need not retry for long."""
    monkeypatch.setattr("shared.runtime.stack_state.CLAIM_TIMEOUT_S", 0.05)


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the check of free ports, as if another program took a port after the check."""

    def check(_: list[Claim]) -> None:
        pass

    monkeypatch.setattr("cli.stack.stack.check", check)


async def test_what_dies_three_times_before_it_is_ready_is_told_with_its_signal(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stack = fake_stack(monkeypatch, tmp_path, {"draft-worker-0": ILLEGAL})
    message = (
        r"draft-worker-0 ended 3 times with SIGILL \(illegal instruction\) before it was ready: drafting"
    )
    async with asyncio.timeout(LIMIT_S):
        with pytest.raises(ProcessFailed, match=message):
            async with stack:
                pass
    assert all(process.pid == 0 for process in stack.processes.values())
    assert not state_file(tmp_path).exists()


def test_pauses_before_giving_up_leave_room_within_ten_seconds() -> None:
    """A stack that cannot start ends within ten seconds; the rest is for starting the process three times."""
    assert sum(BACKOFF_S[: MAX_DEATHS - 1]) + UNREADY_STOP_S <= 3


async def test_it_is_noticed_while_another_service_still_loads(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    programs = {"verifier": "import time; time.sleep(600)", "draft-worker-1": ILLEGAL}
    async with asyncio.timeout(LIMIT_S):
        with pytest.raises(ProcessFailed, match="draft-worker-1 ended 3 times with SIGILL"):
            async with fake_stack(monkeypatch, tmp_path, programs):
                pass


async def test_a_device_that_is_refused_at_the_start_ends_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    refused = "print('draft_worker: no such file'); raise SystemExit(2)"
    async with asyncio.timeout(LIMIT_S):
        with pytest.raises(
            ProcessFailed, match="draft-worker-0 ended with code 2: draft_worker: no such file"
        ):
            async with fake_stack(monkeypatch, tmp_path, {"draft-worker-0": refused}):
                pass


async def test_a_device_that_ends_for_good_later_is_given_up_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    why = "draft-worker-0 ended with code 4: told to end"
    stack = fake_stack(monkeypatch, tmp_path)

    async def serve() -> None:
        async with stack:
            watching = asyncio.create_task(stack.watch())
            await request_page(stack, "draft-worker-0", "/end/4")
            while not stack.given_up:
                await asyncio.sleep(0.02)
            await asyncio.sleep(0)
            assert not watching.done()
            ended = {name for name, process in stack.processes.items() if not process.pid}
            assert ended == {"draft-worker-0"}
            state = read_state(tmp_path)
            assert state is not None
            assert state.given_up == {"draft-worker-0": why}
            with pytest.raises(ProcessFailed, match=why):
                stack.raise_if_failed()
            watching.cancel()

    async with asyncio.timeout(LIMIT_S):
        with pytest.raises(ProcessFailed, match=why):  # whoever measures is told at the end
            await serve()
    assert f"{why}; it is given up, the others go on" in capsys.readouterr().err


async def test_a_device_whose_restart_is_refused_is_given_up_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Like a draft file that is truncated in place: first a death by signal, then a file that cannot be loaded."""
    first = tmp_path / "first"
    once = f"import pathlib; first = pathlib.Path({str(first)!r})\n"
    once += "if first.exists(): print('no GGUF model'); raise SystemExit(2)\nfirst.touch()\n"
    stack = fake_stack(monkeypatch, tmp_path, {"draft-worker-1": once + SERVICE})
    async with asyncio.timeout(LIMIT_S):
        await stack.start()
        await stack.wait_ready()
        watching = asyncio.create_task(stack.watch())
        stack.processes["draft-worker-1"].kill(signal.SIGBUS)
        while not stack.given_up:
            await asyncio.sleep(0.02)
        assert not watching.done()
        await stack.stop()
    assert stack.given_up == {"draft-worker-1": "draft-worker-1 ended with code 2: no GGUF model"}
    await watching


class FullDisk(io.StringIO):
    """A stream whose disk is full."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


async def test_devices_end_alone_on_a_full_disk_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither a message nor the state file can be written."""
    stack = fake_stack(monkeypatch, tmp_path)
    async with asyncio.timeout(LIMIT_S):
        await stack.start()
        await stack.wait_ready()
        watching = asyncio.create_task(stack.watch())
        monkeypatch.setattr("sys.stderr", FullDisk())
        monkeypatch.setattr("cli.stack.stack.write_state", lambda *_: FullDisk().write(""))
        await request_page(stack, "draft-worker-0", "/end/4")
        await request_page(stack, "draft-worker-1", "/end/1")
        while not (watching.done() or (stack.given_up and stack.processes["draft-worker-1"].restarts)):
            await asyncio.sleep(0.02)
        assert not watching.done()
        await stack.stop()
    await watching


async def test_a_part_of_the_core_that_ends_for_good_ends_the_stack(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with asyncio.timeout(LIMIT_S), fake_stack(monkeypatch, tmp_path) as stack:
        await request_page(stack, "scheduler", "/end/3")
        with pytest.raises(ProcessFailed, match="scheduler ended with code 3: told to end"):
            await stack.watch()


async def test_of_two_in_one_folder_one_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with asyncio.timeout(LIMIT_S), fake_stack(monkeypatch, tmp_path) as stack:
        other = fake_stack(monkeypatch, tmp_path)
        with pytest.raises(StateError, match=r"a stack runs here already \(process \d+"):
            await other.start()
        await other.stop()
        state = read_state(tmp_path)
        assert state is not None
        assert state.stack == stack.id
    assert read_state(tmp_path) is None
    async with asyncio.timeout(LIMIT_S), fake_stack(monkeypatch, tmp_path):
        pass  # the folder is free again


async def test_passwords_are_prepared_after_the_change_before(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stack = fake_stack(monkeypatch, tmp_path)
    stack.options = replace(stack.options, listen="127.0.0.1")
    access = access_of(tmp_path)
    async with access.locked():
        starting = asyncio.create_task(stack.start())
        await asyncio.sleep(0.1)
        assert not access.acl_file.exists()
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
    await stack.stop()


async def test_a_port_in_use_is_named_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ports = Ports.free()
    async with web_server(ports.health + 3):
        stack = fake_stack(monkeypatch, tmp_path, ports=ports)
        with pytest.raises(CommandError, match=rf"port {ports.health + 3} .* is in use; .* --health-port"):
            await stack.start()
        assert not any(process.pids for process in stack.processes.values())
    stack.claim()  # the folder is not held by the one that failed
    await stack.stop()


@pytest.mark.usefixtures("unchecked")
async def test_a_health_page_of_somebody_else_is_not_ours(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ports = Ports.free()
    idle = {"scheduler": "import time; time.sleep(600)"}
    async with asyncio.timeout(LIMIT_S), web_server(ports.health + 1):
        with pytest.raises(ProcessFailed, match=r"does not belong to this stack; .* --health-port"):
            async with fake_stack(monkeypatch, tmp_path, idle, ports):
                pass


@pytest.mark.usefixtures("unchecked")
async def test_another_broker_is_not_ours(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, redis_url: str, redis_port: int
) -> None:
    ports = replace(Ports.free(), broker=redis_port)
    async with asyncio.timeout(LIMIT_S):
        with pytest.raises(
            ProcessFailed, match=rf"port {redis_port} is not this stack's broker.*--broker-port"
        ):
            async with fake_stack(monkeypatch, tmp_path, ports=ports):
                pass
    redis = Connections(redis_url)
    assert await redis.call("DBSIZE") == 0
    await redis.close()


@pytest.mark.usefixtures("unchecked")
async def test_a_web_server_is_not_a_broker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ports = Ports.free()
    async with asyncio.timeout(LIMIT_S), web_server(ports.broker):
        with pytest.raises(
            ProcessFailed, match=rf"port {ports.broker} is not this stack's broker: .*HTTP/1.1"
        ):
            async with fake_stack(monkeypatch, tmp_path, ports=ports):
                pass


async def test_a_broker_that_never_answers_is_waited_for_within_a_limit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("cli.stack.proof.BROKER_TIMEOUT_S", 0.2)
    stack = fake_stack(monkeypatch, tmp_path)
    broker = stack.processes["broker"]
    broker.spec = replace(broker.spec, argv=python("import time; time.sleep(600)"))
    async with asyncio.timeout(10):
        with pytest.raises(ProcessFailed, match=r"the broker does not answer on port \d+ within 0.2 s"):
            async with stack:
                pass


async def test_a_broker_that_takes_the_port_of_ours_ends_the_stack(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with asyncio.timeout(LIMIT_S), fake_stack(monkeypatch, tmp_path) as stack:
        broker = stack.processes["broker"]
        broker.spec = replace(broker.spec, argv=python("import time; time.sleep(600)"))
        broker.kill()
        while broker.restarts == 0:  # the port is free then
            await asyncio.sleep(0.02)
        async with web_server(stack.options.ports.broker):
            with pytest.raises(ProcessFailed, match="is not this stack's broker"):
                await stack.watch()
