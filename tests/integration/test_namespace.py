"""A device in a separate network namespace, with real models and a link that fails twice."""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.devices import devices
from cli.stack.stack import LocalStack, Ports, StackOptions
from tests.integration.joining import Machine, place_of, present, text_of

pytestmark = [pytest.mark.model, pytest.mark.slow]

OURS, THEIRS = "10.213.77.1", "10.213.77.2"
AWAY_S = 30.0
TOKENS = 200


class Namespace:
    """A network namespace with a virtual cable to the host."""

    def __init__(self) -> None:
        self.name = f"outrider-{os.getpid()}"
        self.cable = f"or{os.getpid() % 10**8}"

    def make(self) -> None:
        peer = f"{self.cable}p"
        _ip("netns", "add", self.name)
        _ip("link", "add", self.cable, "type", "veth", "peer", "name", peer)
        _ip("link", "set", peer, "netns", self.name)
        _ip("addr", "add", f"{OURS}/24", "dev", self.cable)
        _ip("link", "set", self.cable, "up")
        _ip("-n", self.name, "addr", "add", f"{THEIRS}/24", "dev", peer)
        _ip("-n", self.name, "link", "set", peer, "up")
        _ip("-n", self.name, "link", "set", "lo", "up")

    def plug(self, in_: bool) -> None:
        _ip("-n", self.name, "link", "set", f"{self.cable}p", "up" if in_ else "down")

    def remove(self) -> None:
        subprocess.run(["ip", "netns", "del", self.name], check=False, capture_output=True)
        subprocess.run(["ip", "link", "del", self.cable], check=False, capture_output=True)


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no network namespace to be had here: ip {' '.join(words)}: {done.stderr.strip()}")


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    if os.geteuid() != 0:
        pytest.skip("a network namespace needs root")
    made = Namespace()
    try:
        made.make()
        yield made
    finally:
        made.remove()


async def test_a_device_far_away_joins_drafts_and_comes_back(
    namespace: Namespace, models_dir: Path, tmp_path: Path
) -> None:
    options = StackOptions(
        target_dir=models_dir / "target",
        served_name="smollm2",
        draft_workers=0,
        ports=Ports.free(),
        state_dir=tmp_path / "state",
        env={"OUTRIDER_DTYPE": "float32", "OUTRIDER_DRAFT": "smollm2"},
        listen=OURS,
    )
    async with LocalStack(options) as stack:
        alone, accepted = await text_of(stack, tokens=TOKENS)
        assert accepted == 0
        line, _ = await devices.add(place_of(stack), "far", "")
        machine = Machine(tmp_path / "far", ("ip", "netns", "exec", namespace.name))
        await machine.run(line)
        await present(stack, "far", wait_s=60)
        drafted, accepted = await text_of(stack, tokens=TOKENS)
        assert drafted == alone
        assert accepted > TOKENS // 4
        for _ in range(2):
            meanwhile = asyncio.create_task(text_of(stack, tokens=TOKENS))
            await asyncio.sleep(1.0)
            namespace.plug(False)
            assert (await meanwhile)[0] == alone  # goes on without it
            await present(stack, "far", there=False, wait_s=AWAY_S)
            await asyncio.sleep(AWAY_S)
            namespace.plug(True)
            await present(stack, "far", wait_s=60)
            drafted, accepted = await text_of(stack, tokens=TOKENS)
            assert drafted == alone
            assert accepted > TOKENS // 4
        await machine.stop()
