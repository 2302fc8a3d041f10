"""Ranks as processes: what is wrong at the start is one line and an exit code; what dies later is replaced alone."""

import asyncio
import os
import signal
from collections.abc import Mapping
from pathlib import Path

import pytest

from shared.runtime.service import EXIT_LOST, EXIT_SETTINGS
from tests.services.verifier.stages.ranks import Rank, Ranks, model, ranks

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model(tmp_path / "model")
    return tmp_path


async def started(group: Ranks, **own: str) -> list[Rank]:
    """All ranks, once the verifier is ready."""
    all_ranks = [await group.start(rank, **own) for rank in range(group.stages + 1)]
    await all_ranks[0].says("ready")
    return all_ranks


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (
            {"OUTRIDER_STAGES": "5", "WORLD_SIZE": "6"},
            "rank 1: OUTRIDER_STAGES=5: 5 stages for a model of 4 layers",
        ),
        (
            {"OUTRIDER_STAGE_LAYERS": "3,2"},
            "rank 1: OUTRIDER_STAGE_LAYERS=3,2: 3,2 is 2 stages with 5 layers",
        ),
    ],
)
async def test_a_wrong_setting_of_one_rank_ends_it_before_it_joins(
    settings: Mapping[str, str], line: str, folder: Path
) -> None:
    async with ranks(folder, "redis://127.0.0.1:1/0", 2) as group:
        code, said = await (await group.start(1, **settings)).ended()
        assert code == EXIT_SETTINGS
        assert said.startswith(f"verifier: {line}")


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (
            {"OUTRIDER_DTYPE": "bfloat16"},
            "dtype: bfloat16, not float32; give all of them the same OUTRIDER_DTYPE",
        ),
        ({"OUTRIDER_MODEL_DIR": "other"}, "model files (their digest): "),
    ],
)
async def test_ranks_that_do_not_fit_together_all_end_and_name_the_one(
    settings: dict[str, str], line: str, folder: Path
) -> None:
    if settings.get("OUTRIDER_MODEL_DIR") == "other":
        settings = {"OUTRIDER_MODEL_DIR": str(model(folder / "other", seed=1))}
    async with ranks(folder, "redis://127.0.0.1:1/0", 2) as group:
        all_ranks = [await group.start(0), await group.start(1), await group.start(2, **settings)]
        for one in all_ranks:
            code, said = await one.ended()
            assert code == EXIT_SETTINGS, one.output()
            assert f"rank 2 differs from rank 0 in its {line}" in said


async def test_a_rank_that_does_not_come_is_named_by_all_others(folder: Path) -> None:
    async with ranks(folder, "redis://127.0.0.1:1/0", 2, OUTRIDER_STAGE_WAIT_S="3") as group:
        stage = await group.start(1, OUTRIDER_STAGE_WAIT_S="600")
        await stage.says("waiting for rank 0")
        front = await group.start(0)
        await stage.says("waiting for rank 2")
        code, said = await front.ended()
        assert code == EXIT_LOST
        assert said.startswith(
            "verifier: rank 0 has waited 3 s (OUTRIDER_STAGE_WAIT_S) for rank 2; start what is"
        )
        await stage.says("waiting for rank 0")


async def test_those_that_are_left_go_on_with_what_takes_the_place_of_the_dead(
    folder: Path, redis_url: str
) -> None:
    """One stage dies, another while the group forms again, then rank 0: nobody else is started anew."""
    async with ranks(folder, redis_url, 3) as group:
        front, first, second, third = await started(group)
        await second.kill()
        await front.says("waiting for rank 2")
        await third.kill()
        newer = [await group.start(2), await group.start(3)]
        await front.wrote("group ready", 2)
        await front.says("ready")
        await front.kill()
        await first.says("waiting for rank 0")
        again = await group.start(0)
        await again.says("ready")
        assert first.process.returncode is None
        assert [one.process.returncode for one in newer] == [None, None]
        assert first.output().count("the group has ended") == 2
        assert " rank=1 " in first.output()
        for one in (again, first, *newer):
            one.process.terminate()
        for one in (again, first, *newer):
            assert (await one.ended())[0] == 0, one.output()


async def test_a_rank_that_dies_at_the_moment_of_joining_holds_up_nobody_for_long(
    folder: Path, redis_url: str
) -> None:
    """It is killed as soon as it has been seen to register."""
    async with ranks(folder, redis_url, 2) as group:
        front, _, second = await started(group)
        await second.kill()
        await front.says("waiting for rank 2")
        unlucky = await group.start(2)
        await unlucky.wrote("waiting for")
        await unlucky.kill()
        await group.start(2)
        await front.wrote("group ready", 2)
        await front.says("ready")


async def test_a_stage_that_is_told_to_stop_leaves_and_the_others_wait(folder: Path, redis_url: str) -> None:
    async with ranks(folder, redis_url, 2) as group:
        front, first, second = await started(group)
        second.process.terminate()
        assert (await second.ended())[0] == 0
        await front.says("waiting for rank 2")
        await first.says("waiting for rank 2")
        front.process.terminate()
        assert (await front.ended())[0] == 0


async def test_torchrun_starts_the_ranks_and_starts_them_again(folder: Path, redis_url: str) -> None:
    async with ranks(folder, redis_url, 2) as group:
        arguments = "-m torch.distributed.run --nproc-per-node 3 --max-restarts 1 --monitor-interval 0.5"
        port = f"--master-addr 127.0.0.1 --master-port {group.port}"
        launcher = await group.run(0, (*arguments.split(), *port.split(), "-m", "services.verifier"))
        await launcher.says("ready")
        await launcher.wrote("group ready")
        os.kill(children(launcher)[-1], signal.SIGKILL)
        await launcher.wrote("group ready", 2)
        await launcher.says("ready")
        launcher.process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(launcher.process.wait(), 60)


def children(one: Rank) -> list[int]:
    """Processes that it has started."""
    pid = one.process.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
