"""`outrider up` and `down`: which processes they stop, and invalid options."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli import main as cli
from cli.stack.stack import LocalStack, StackOptions
from cli.stack.up import run_down, run_up
from shared.runtime.stack_state import claim, start_of, write_state
from tests.shared.runtime.test_stack_state import state

HOLDER = """
import os, signal, sys
from pathlib import Path
from shared.runtime.stack_state import State, claim, start_of, write_state
lock = claim(Path(sys.argv[1]))
write_state(Path(sys.argv[1]), State(os.getpid(), start_of(os.getpid()), "s", "u", "b", "", (), {}))
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
print("held", flush=True)
signal.sigwait({signal.SIGTERM})
"""


@pytest.fixture(autouse=True)
def _look_briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock that is held in these tests stays held, so a claim need not retry for long."""
    monkeypatch.setattr("shared.runtime.stack_state.CLAIM_TIMEOUT_S", 0.05)


@pytest.mark.parametrize("held", [False, True], ids=["stale", "held by another"])
def test_down_ends_nobody_else(tmp_path: Path, held: bool) -> None:
    lock = claim(tmp_path)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as bystander:
        started = "0" if held else start_of(bystander.pid)
        write_state(tmp_path, state(pid=bystander.pid, started=started))
        if not held:
            lock.release()
        assert run_down(tmp_path) == "no stack is running"
        assert bystander.poll() is None
        bystander.kill()
    lock.release()


async def test_a_stack_is_stopped_though_no_line_can_be_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stopped: list[LocalStack] = []

    async def stop(stack: LocalStack) -> None:
        stopped.append(stack)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(LocalStack, "claim", lambda _: None)
    monkeypatch.setattr(LocalStack, "stop", stop)
    monkeypatch.setattr("cli.stack.up.Console.status", full)
    monkeypatch.setattr("cli.stack.up.Console.print", full)
    with pytest.raises(OSError, match="No space left"):
        await run_up(StackOptions(modelled=True, state_dir=tmp_path))
    assert len(stopped) == 1


def test_down_ends_the_stack_that_runs(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert run_down(tmp_path) == f"stopped (process {holder.pid})"
        assert holder.wait(10) == 0


@pytest.mark.parametrize("option", ["--port", "--broker-port", "--health-port"])
@pytest.mark.parametrize("value", ["70000", "-1", "x"])
def test_a_port_out_of_range_is_named(option: str, value: str) -> None:
    found = CliRunner(env={"TERMINAL_WIDTH": "200"}).invoke(cli.app, ["up", "--modelled", option, value])
    assert found.exit_code == 2
    assert option in found.output


@pytest.mark.parametrize("given", [(7001, 7002, 7003), (0, 0, 0)])
def test_the_options_choose_the_ports(
    given: tuple[int, int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[StackOptions] = []

    async def run_up(options: StackOptions) -> None:
        seen.append(options)

    monkeypatch.setattr("cli.stack.up.run_up", run_up)
    names = ("--port", "--broker-port", "--health-port")
    ports = [word for name, port in zip(names, given, strict=True) for word in (name, str(port))]
    found = CliRunner().invoke(cli.app, ["up", "--modelled", *ports, "--state", str(tmp_path)])
    assert found.exit_code == 0
    chosen = (seen[0].ports.gateway, seen[0].ports.broker, seen[0].ports.health)
    assert chosen == given if all(given) else all(chosen)


@pytest.mark.parametrize(
    "command", [["up", "--modelled"], ["down"], ["devices", "list"], ["devices", "add", "x"]]
)
def test_a_file_as_state_folder_is_named(tmp_path: Path, command: list[str]) -> None:
    file = tmp_path / "file"
    file.write_text("")
    found = CliRunner(env={"TERMINAL_WIDTH": "200"}).invoke(cli.app, [*command, "--state", str(file)])
    assert found.exit_code == 2
    assert "--state" in found.output


def test_a_stack_that_runs_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    lock = claim(tmp_path)
    free = ["--port", "0", "--broker-port", "0", "--health-port", "0"]
    found = CliRunner().invoke(cli.app, ["up", "--modelled", *free, "--state", str(tmp_path)])
    assert found.exit_code == 1
    assert f"a stack runs here already (process {os.getpid()}" in found.output + capfd.readouterr().err
    lock.release()
