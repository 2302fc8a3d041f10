"""`python -m cli.bench.pipeline.memory`: what each rank holds, the limit it runs under, and the real model."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from cli.bench.pipeline.memory import MORE, even_split, parts, run, split_target
from cli.bench.pipeline.memory_limit import RESERVED, MemoryLimit, memory_limit, own_groups
from cli.command.errors import CommandError
from cli.models.store import folder as model_folder

MODEL = "qwen2.5-coder"
GREEDY = "print(len(bytearray(2 << 30)))"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five layers of 60 bytes in bfloat16 each, an embedding and a head that is not tied to it."""
    config = {
        "num_hidden_layers": 5,
        "hidden_size": 8,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    tensors = {f"model.layers.{i}.a": torch.zeros(5, 6, dtype=torch.bfloat16) for i in range(5)}
    tensors |= {"model.embed_tokens.weight": torch.zeros(10, 8), "lm_head.weight": torch.zeros(10, 8)}
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    return tmp_path


def test_the_parts_of_the_ranks_are_those_of_the_files(folder: Path) -> None:
    front, *stages = parts(folder, even_split(5, 2), 100)
    assert (front.name, front.weights, front.pool) == ("verifier", 2 * 10 * 8 * 4, 0)
    assert [(stage.name, stage.weights) for stage in stages] == [("stage-1", 360), ("stage-2", 240)]
    assert [stage.pool for stage in stages] == [3 * 2 * 4 * 4 * 100, 2 * 2 * 4 * 4 * 100]
    assert stages[0].limit == 360 + stages[0].pool + MORE
    with pytest.raises(CommandError, match="from 2 to the target's 5 layers"):
        split_target(folder, 6)


def test_own_control_groups_of_both_versions() -> None:
    lines = "9:name=systemd:/\n4:memory:/a/b\n3:cpu,cpuacct:/a\n0::/c\n"
    assert own_groups(lines) == [Path("/sys/fs/cgroup/memory/a/b"), Path("/sys/fs/cgroup/c")]


@pytest.mark.slow
def test_the_limit_holds_and_leaves_nothing_behind() -> None:
    limit = memory_limit()
    try:
        for amount, ends_well in ((1 << 30, False), (3 << 30, True)):
            argv = limit.argv("greedy", amount, (sys.executable, "-c", GREEDY))
            done = subprocess.run(argv, capture_output=True, text=True, check=False)
            assert (done.returncode == 0) == ends_well, done.stderr
    finally:
        limit.end()
    assert limit.group is None or not limit.group.exists()


def test_without_a_control_group_the_process_limits_itself() -> None:
    argv = MemoryLimit(None).argv("greedy", (1 << 30) - RESERVED, (sys.executable, "-c", GREEDY))
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.stderr.strip().endswith("MemoryError")


@pytest.mark.slow
@pytest.mark.model
@pytest.mark.timeout(1800)
def test_ranks_of_a_real_target_fit_where_the_whole_cannot_be_loaded(tmp_path: Path) -> None:
    if not model_folder(MODEL).stamp.is_file():
        pytest.skip(f"{MODEL} is not fetched (make models MODELS={MODEL}: 1.6 GB)")
    outcome = run(MODEL, 4, tmp_path)
    assert outcome.answer > 0
    for one in outcome.peaks:
        assert one.peak <= one.part.limit, f"{one.part.name}: {one.peak >> 20} of {one.part.limit >> 20} MiB"
    assert outcome.whole.limited != 0
    assert outcome.whole.peak > outcome.whole.limit
