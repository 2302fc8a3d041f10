"""A device that exits permanently: the stack goes on without it and reports it."""

import asyncio
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from cli.command.errors import ProcessFailed
from cli.stack.stack import LocalStack, Ports, StackOptions
from loadgen.client.streaming import Client
from tests.exactness.runner import CASES, options, request
from tests.integration.elastic import another
from tests.integration.joining import text_of

pytestmark = pytest.mark.slow


async def test_a_second_device_of_the_same_name_ends_the_first_alone(tmp_path: Path) -> None:
    stack = LocalStack(StackOptions(modelled=True, draft_workers=1, ports=Ports.free(), state_dir=tmp_path))

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


@pytest.mark.model
async def test_a_draft_file_cut_in_place_costs_no_text(models_dir: Path, tmp_path: Path) -> None:
    """The drafting process dies of SIGBUS, and the file cannot be loaded again."""
    draft = Path(shutil.copy(models_dir / "draft.gguf", tmp_path))
    case = next(case for case in CASES if len(case["tokens"]) > 8)
    stack = LocalStack(replace(options(models_dir, True, tmp_path / "state"), draft_model=draft))

    async def serve() -> None:
        async with stack, Client(stack.url) as client:
            os.truncate(draft, draft.stat().st_size // 2)
            while len(stack.given_up) < 2:
                record = await client.chat(replace(request(case), max_tokens=8))
                assert (record.error, record.tokens) == ("", case["tokens"][:8])

    async with asyncio.timeout(600):  # on a busy machine a pass of the verifier takes seconds
        with pytest.raises(ProcessFailed, match="data is not within the file bounds"):
            await serve()
    assert set(stack.given_up) == {"draft-worker-0", "draft-worker-1"}
