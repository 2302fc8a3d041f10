"""Credentials of devices: concurrent changes are all kept, and only the right broker is changed."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from cli.devices import devices
from cli.devices.commands import place_of, prepare_
from cli.devices.devices import Place
from cli.stack.access import Access
from cli.stack.stack import access_of
from shared.runtime.stack_state import claim, write_state
from tests.shared.runtime.test_stack_state import state

AT_ONCE = 12
# Forks once the modules are loaded; all children begin when the pipe is closed.
TWELVE = """
import asyncio, os, sys
from pathlib import Path
from cli.devices import devices
from cli.stack.access import Access
from cli.devices.devices import Place

place = Place(Access(Path(sys.argv[1])), "", "redis://10.0.0.1:1/0")
begin, hold = os.pipe()
children = []
for number in range(int(sys.argv[2])):
    child = os.fork()
    if child == 0:
        os.close(hold)
        os.read(begin, 1)
        asyncio.run(devices.add(place, f"d{number}", ""))
        os._exit(0)
    children.append(child)
os.close(hold)
sys.exit(sum(os.waitpid(child, 0)[1] for child in children))
"""


@pytest.fixture
def access(tmp_path: Path) -> Access:
    made = access_of(tmp_path)
    made.prepare()
    return made


def test_of_devices_added_at_once_none_is_lost(access: Access) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TWELVE, str(access.folder), str(AT_ONCE)], check=False, timeout=60
    )
    assert done.returncode == 0
    assert {device.name for device in access.devices()} == {f"d{number}" for number in range(AT_ONCE)}
    users = access.acl_file.read_text()
    assert all(f"user device:d{number} " in users for number in range(AT_ONCE))


async def test_a_change_waits_for_the_one_before(access: Access) -> None:
    place = Place(access, "", "redis://10.0.0.1:1/0")
    async with access.locked():
        adding = asyncio.create_task(devices.add(place, "pi", ""))
        await asyncio.sleep(0.1)
        assert access.devices() == ()
    _, remark = await asyncio.wait_for(adding, 10)
    assert [device.name for device in access.devices()] == ["pi"]
    assert "no broker runs here" in remark


async def test_a_removal_waits_for_the_change_before(access: Access) -> None:
    place = Place(access, "", "redis://10.0.0.1:1/0")
    await devices.add(place, "pi", "")
    async with access.locked():
        removing = asyncio.create_task(devices.remove(place, "pi"))
        await asyncio.sleep(0.1)
        assert [device.name for device in access.devices()] == ["pi"]
    await asyncio.wait_for(removing, 10)
    assert access.devices() == ()


async def test_preparing_a_folder_waits_for_the_change_before(access: Access) -> None:
    access.acl_file.unlink()
    async with access.locked():
        preparing = asyncio.create_task(asyncio.to_thread(prepare_, access.folder))
        await asyncio.sleep(0.1)
        assert not access.acl_file.exists()
    await asyncio.wait_for(preparing, 10)
    assert access.acl_file.exists()


def test_only_this_folder_s_own_broker_is_told(tmp_path: Path, access: Access) -> None:
    elsewhere = Access(tmp_path / "elsewhere")
    elsewhere.prepare()
    assert place_of(tmp_path, None, "", "").broker_url == ""
    lock = claim(tmp_path)
    write_state(tmp_path, state(broker_url="redis://127.0.0.1:2/0", join_url="redis://10.0.0.1:2/0"))
    own = place_of(tmp_path, None, "", "")
    assert (own.broker_url, own.join_url) == ("redis://127.0.0.1:2/0", "redis://10.0.0.1:2/0")
    assert place_of(tmp_path, elsewhere.folder, "", "").broker_url == ""
    assert place_of(tmp_path, elsewhere.folder, "redis://b:1/0", "").broker_url == "redis://b:1/0"
    lock.release()
