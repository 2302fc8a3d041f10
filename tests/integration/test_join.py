"""A device joins a running stack with the printed command; and errors of joining."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from cli.command.errors import CommandError
from cli.devices import devices
from cli.devices.devices import Place
from cli.stack.stack import LocalStack, Ports, StackOptions, access_of
from shared.broker.connections import Connections
from shared.broker.device_list import read_devices, write_devices
from tests.integration.joining import WAIT_S, Machine, place_of, present, text_of

pytestmark = pytest.mark.slow

LISTEN = "127.0.0.2"
MODELLED: Mapping[str, str] = {"OUTRIDER_DRAFTER": "modelled"}


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[LocalStack]:
    """A modelled stack without devices, open to devices on another loopback address."""
    options = StackOptions(
        modelled=True, draft_workers=0, ports=Ports.free(), state_dir=tmp_path / "state", listen=LISTEN
    )
    async with LocalStack(options) as running:
        yield running


async def test_the_printed_line_is_all_it_takes(stack: LocalStack, tmp_path: Path) -> None:
    alone, accepted = await text_of(stack)
    assert accepted == 0
    line, remark = await devices.add(place_of(stack), "kitchen", "")
    assert (remark, line.count("\n")) == ("", 0)
    machine = Machine(tmp_path / "kitchen")
    await machine.run(line, MODELLED)
    await present(stack, "kitchen")
    drafted, accepted = await text_of(stack)
    assert drafted == alone
    assert accepted > 10
    assert (machine.folder / "outrider-kitchen.token").stat().st_mode & 0o777 == 0o600
    await machine.stop()
    await present(stack, "kitchen", there=False)
    assert (await text_of(stack))[0] == alone


async def test_a_removed_device_is_cut_off_and_says_so(stack: LocalStack, tmp_path: Path) -> None:
    line, _ = await devices.add(place_of(stack), "attic", "30d")
    machine = Machine(tmp_path / "attic")
    await machine.run(line, MODELLED)
    await present(stack, "attic")
    done, remark = await devices.remove(place_of(stack), "attic")
    assert (done, remark) == ("attic can no longer join", "")
    code, message = await machine.ended()
    assert code == 3
    assert "'attic' was removed" in message
    await text_of(stack)


async def test_an_expired_device_is_dismissed(stack: LocalStack, tmp_path: Path) -> None:
    place = place_of(stack)
    line, _ = await devices.add(place, "old", "30d")
    machine = Machine(tmp_path / "old")
    await machine.run(line, MODELLED)
    await present(stack, "old")
    over = [
        replace(device, expires_s=int(time.time()) - 1) for device in read_devices(place.access.devices_file)
    ]
    write_devices(place.access.devices_file, over)
    code, message = await machine.ended()
    assert code == 3
    assert "the credential of 'old' has expired; `outrider devices add old` makes a new one" in message
    await present(stack, "old", there=False)


async def test_of_two_with_one_name_the_newer_wins(stack: LocalStack, tmp_path: Path) -> None:
    line, _ = await devices.add(place_of(stack), "twin", "")
    older, newer = Machine(tmp_path / "older"), Machine(tmp_path / "newer")
    await older.run(line, MODELLED)
    first = await present(stack, "twin")
    await newer.run(line, MODELLED)
    code, message = await older.ended()
    assert code == 4
    assert "a newer draft_worker has the name 'twin'" in message
    assert await present(stack, "twin") > first
    await text_of(stack)
    await newer.stop()


@pytest.mark.parametrize(
    ("change", "env", "code", "message"),
    [
        (("echo ", "echo x"), {}, 3, "a wrong token"),
        (("redis://", "ftp://"), {}, 2, "Invalid value for 'url': it does not begin with redis://"),
        (("--name pi", "--name 'p i'"), {}, 2, "--name: 'p i' is no name"),
        (
            ("--token-file outrider-pi.token", "--token-file nothing"),
            {},
            2,
            "--token-file nothing: no such file",
        ),
        (("", ""), {"OUTRIDER_MODEL_VOCAB": "77"}, 3, "the draft model's vocabulary is not that of"),
        (("", ""), {"OUTRIDER_DRAFTER": "llama"}, 2, "the core names no draft model: give one with --model"),
        (
            ("--name pi", "--name pi --model missing.gguf"),
            {"OUTRIDER_DRAFTER": "llama"},
            2,
            "--model missing.gguf: no such file",
        ),
    ],
    ids=["token", "url", "name", "no token", "vocabulary", "no model named", "no model file"],
)
async def test_what_is_wrong_is_told_in_one_line(
    stack: LocalStack, tmp_path: Path, change: tuple[str, str], env: dict[str, str], code: int, message: str
) -> None:
    line, _ = await devices.add(place_of(stack), "pi", "")
    machine = Machine(tmp_path / "pi")
    await machine.run(line.replace(*change) if change[0] else line, {**MODELLED, **env})
    ended, last = await machine.ended()
    assert (ended, message in last) == (code, True), machine.log.read_text()
    assert "Traceback" not in machine.log.read_text()
    await text_of(stack)  # nobody else is affected


async def test_another_protocol_version_is_refused(stack: LocalStack, tmp_path: Path) -> None:
    place = place_of(stack)
    user = "verifier"
    raw = Connections(stack.broker_url, user, place.access.password_file(user).read_text().strip())
    await raw.call("HSET", "or:{s0}:deployment", "protocol", "99")
    await raw.close()
    line, _ = await devices.add(place, "pi", "")
    machine = Machine(tmp_path / "pi")
    await machine.run(line, MODELLED)
    code, message = await machine.ended()
    assert code == 3
    assert "the deployment speaks protocol version 99" in message


async def test_devices_are_known_after_a_restart_of_the_broker(stack: LocalStack, tmp_path: Path) -> None:
    line, _ = await devices.add(place_of(stack), "kitchen", "")
    machine = Machine(tmp_path / "kitchen")
    await machine.run(line, MODELLED)
    first = await present(stack, "kitchen")
    stack.processes["broker"].kill()
    deadline = time.monotonic() + WAIT_S
    while await present(stack, "kitchen") == first:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.2)
    await stack.wait_ready()
    assert (await text_of(stack))[1] > 10
    await machine.stop()


async def test_a_device_cannot_be_added_to_a_broker_that_is_not_open(tmp_path: Path) -> None:
    access = access_of(tmp_path)
    access.prepare()
    with pytest.raises(CommandError, match="accepts connections from this machine only"):
        await devices.add(Place(access, "redis://127.0.0.1:1/0", ""), "pi", "")
    with pytest.raises(CommandError, match="no name for a device"):
        await devices.add(Place(access, "redis://127.0.0.1:1/0", "redis://10.0.0.1:1/0"), "p i", "")
    with pytest.raises(CommandError, match="no device has the name 'pi'; there are: none"):
        await devices.remove(Place(access, "redis://127.0.0.1:1/0", ""), "pi")
    _, remark = await devices.add(Place(access, "redis://127.0.0.1:1/0", "redis://10.0.0.1:1/0"), "pi", "1h")
    assert "the broker is not running" in remark


async def test_a_disk_without_room_for_the_draft_model_is_named(tmp_path: Path) -> None:
    """With a small file system for models, the device exits with one line and its code; the stack is not affected."""
    env = {"OUTRIDER_DRAFT": "smollm2"}
    options = StackOptions(
        modelled=True,
        draft_workers=0,
        ports=Ports.free(),
        state_dir=tmp_path / "state",
        listen=LISTEN,
        env=env,
    )
    full = tmp_path / "full"
    full.mkdir()
    mounted = ("unshare", "-m", "sh", "-c", 'mount -t tmpfs -o size=8m none "$0" && exec "$@"', str(full))
    async with LocalStack(options) as stack:
        line, _ = await devices.add(place_of(stack), "small", "")
        machine = Machine(tmp_path / "small", within=mounted)
        await machine.run(line, {"OUTRIDER_CACHE": str(full)})
        code, message = await machine.ended()
        assert code == 2
        assert "draft model smollm2" in message
        assert "--model FILE.gguf" in message
        assert str(full) in message
        await text_of(stack)
