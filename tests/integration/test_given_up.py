"""A device of the stack that ends for good: the others go on, and say so."""

import asyncio
from pathlib import Path

import pytest

from services.local.processes import ProcessFailed
from services.local.stack import LocalStack, Options, Ports
from tests.integration.elastic import another
from tests.integration.joining import text_of

pytestmark = pytest.mark.slow


async def test_a_second_device_of_the_same_name_ends_the_first_alone(tmp_path: Path) -> None:
    stack = LocalStack(Options(modelled=True, draft_workers=1, ports=Ports.free(), state_dir=tmp_path))

    async def serve() -> None:
        async with stack:
            expected, accepted = await text_of(stack)
            assert accepted > 10
            newer = await another(stack, "draft-worker-0", "device-0")
            async with asyncio.timeout(30):
                while not stack.given_up:
                    await asyncio.sleep(0.1)
            assert await text_of(stack) == (expected, accepted)
            await newer.stop()
            assert await text_of(stack) == (expected, 0)

    with pytest.raises(ProcessFailed, match="a newer draft_worker has the name 'device-0'"):
        await serve()
    assert list(stack.given_up) == ["draft-worker-0"]
