"""A rank needs its own part of the target, its part of the pool, and half a GiB: less than the whole target."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
import torch
from safetensors.torch import save_file
from transformers import LlamaConfig

MORE: Final = 512 << 20
LAYERS: Final = (4, 4, 4)
HIDDEN, WIDE, KV_WIDTH, VOCAB = 2048, 5632, 512, 8192
POOL: Final = 4096  # tokens
LIMIT_S: Final = 280.0

COMMON = """
import re, resource, sys
import services.verifier.__main__
import services.verifier.stages.serve  # all that a rank imports
import torch

folder, limit = sys.argv[1], int(sys.argv[2])
if limit:
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) << 10
"""

RANK = (
    COMMON
    + """
from services.verifier.stages.block import to_bytes
from services.verifier.stages.messages import Assign, Piece, PieceRow
from services.verifier.stages.rank_parts import BlockLoader, FrontLoader, facts_of, model_plan
from shared.runtime.settings import VerifierSettings

rank, layers, pool = int(sys.argv[3]), tuple(map(int, sys.argv[4].split(","))), int(sys.argv[5])
settings = VerifierSettings(
    model_dir=folder, stages=len(layers), kv_tokens=pool, dtype="float32", target="torch", verifier_threads=1
)
plan = model_plan(settings)
facts_of(settings, plan, rank)
if rank:
    block = BlockLoader(settings, plan, rank)(Assign(layers, 300))
    table = tuple(range(pool // settings.page_tokens))
    for begin in range(0, pool, 64):  # every page is written
        hidden = to_bytes(torch.randn(64, plan.config.hidden_size))
        block.run(Piece(1, (), (), (PieceRow(begin, 64, 64, (), (), table),), hidden))
else:
    FrontLoader(settings, plan)()
assert "scipy" not in sys.modules
print(peak())
"""
)

WHOLE = (
    COMMON
    + """
from services.verifier.loading import load_target
load_target(folder, dtype="float32", device="cpu", kv_tokens=int(sys.argv[5]))
print(peak())
"""
)


def part(*shape: int) -> torch.Tensor:
    return torch.rand(*shape).sub_(0.5).mul_(0.02).to(torch.bfloat16)


def layer(index: int) -> dict[str, torch.Tensor]:
    shapes = {
        "self_attn.q_proj": (HIDDEN, HIDDEN),
        "self_attn.k_proj": (KV_WIDTH, HIDDEN),
        "self_attn.v_proj": (KV_WIDTH, HIDDEN),
        "self_attn.o_proj": (HIDDEN, HIDDEN),
        "mlp.gate_proj": (WIDE, HIDDEN),
        "mlp.up_proj": (WIDE, HIDDEN),
        "mlp.down_proj": (HIDDEN, WIDE),
        "input_layernorm": (HIDDEN,),
        "post_attention_layernorm": (HIDDEN,),
    }
    return {f"model.layers.{index}.{name}.weight": part(*shape) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 2 GB in float32, saved in bfloat16, a file for every layer."""
    made = tmp_path_factory.mktemp("large")
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=HIDDEN,
        intermediate_size=WIDE,
        num_hidden_layers=sum(LAYERS),
        num_attention_heads=16,
        num_key_value_heads=4,
        max_position_embeddings=POOL,
        tie_word_embeddings=True,
        pad_token_id=0,
        architectures=["LlamaForCausalLM"],
    )
    config.save_pretrained(made)
    vocab = {f"w{i}": i for i in range(VOCAB)}
    model = {"type": "BPE", "vocab": vocab}
    tokenizer: dict[str, object] = {
        "added_tokens": [],
        "pre_tokenizer": None,
        "decoder": None,
        "model": model,
    }
    (made / "tokenizer.json").write_text(json.dumps(tokenizer))
    names: dict[str, str] = {}
    for index in range(sum(LAYERS)):
        tensors = layer(index)
        if index == 0:
            tensors |= {"model.embed_tokens.weight": part(VOCAB, HIDDEN), "model.norm.weight": part(HIDDEN)}
        file = f"model-{index + 1:05}-of-{sum(LAYERS):05}.safetensors"
        save_file(tensors, made / file, metadata={"format": "pt"})
        names |= dict.fromkeys(tensors, file)
    (made / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))
    return made


def weights(rank: int) -> int:
    """Bytes of a rank's part in float32."""
    if rank == 0:
        return 4 * VOCAB * HIDDEN
    return LAYERS[rank - 1] * sum(4 * tensor.numel() for tensor in layer(0).values())


def pool(rank: int) -> int:
    """Bytes of a rank's part of the pool: keys and values."""
    return LAYERS[rank - 1] * 2 * 4 * KV_WIDTH * POOL if rank else 0


def run(script: str, folder: Path, limit: int, rank: int = 0) -> "subprocess.CompletedProcess[str]":
    arguments = [str(folder), str(limit), str(rank), ",".join(map(str, LAYERS)), str(POOL)]
    command = [sys.executable, "-c", script, *arguments]
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False, env=own)


@pytest.mark.slow
@pytest.mark.parametrize("rank", range(len(LAYERS) + 1))
def test_a_rank_fits_in_its_part_and_half_a_gib(folder: Path, rank: int) -> None:
    """From its first import to a full pool: the most that was ever resident.

    The allocator has its own settings, whatever the shell says; and compiled modules are there, since this process has
    loaded the same ones. What depends on machine and libraries is the part of them that their start leaves in memory.
    """
    done = run(RANK, folder, 0, rank)
    assert done.returncode == 0, done.stderr
    peak, fits = int(done.stdout.split()[-1]), weights(rank) + pool(rank) + MORE
    assert peak <= fits, f"{peak >> 20} MiB, {fits >> 20} expected"


@pytest.mark.slow
def test_where_a_rank_works_the_whole_target_cannot_be_loaded(folder: Path) -> None:
    """Under one limit for both. It is RLIMIT_DATA, which every user may set, and not a control group's.

    It counts what is reserved: stacks of threads, unused ends of arenas, and the file of weights that is mapped at the
    moment. So a quarter of a GiB more than what may be resident is granted, far from enough for the whole.
    """
    limit = weights(1) + pool(1) + MORE + (256 << 20)
    done = run(RANK, folder, limit, 1)
    assert done.returncode == 0, done.stderr
    assert run(WHOLE, folder, limit).returncode != 0
    whole = run(WHOLE, folder, 0)  # for want of memory alone
    assert whole.returncode == 0, whole.stderr
    assert int(whole.stdout.split()[-1]) > limit
