"""The verifier's memory: the weights, the KV pool, and at most 1 GiB more."""

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

LIMIT_S: Final = (
    900.0  # beside other work that computes, torch's threads wait for each other most of the time
)

SERVE = """
import sys
from pathlib import Path
import psutil
import services.verifier.__main__
from services.verifier.loading import load_target
from shared.compute.target import TargetRow
from shared.speculative.params import SamplingParams

target = load_target(sys.argv[1], dtype="float32", device="cpu", kv_tokens=16384)
sampling = SamplingParams(seed=1, vocab=target.vocab, temperature=0.7, top_p=0.9)
names = [f"s{i}" for i in range(8)]
for i, name in enumerate(names):  # every page is written, in chunks as they come
    for begin in range(0, 2000, 500):
        ids = [(13 * i + at) % 40_000 + 3 for at in range(begin, begin + 500)]
        assert target.admit(name, (), names, 2048)
        target.forward([TargetRow(name, begin, ids, 500, begin == 1500, sampling)])
for batch in range(1, 73):  # batches of every size
    counts = [batch // 8 + (i < batch % 8) for i in range(8)]
    rows = [
        TargetRow(name, 2000, [5] * count, 1, True, sampling)
        for name, count in zip(names, counts, strict=True) if count
    ]
    target.forward(rows)
    for row in rows:
        target.keep(row.session, 2000)
        assert target.admit(row.session, (), names, 2048)
weights = sum(file.stat().st_size for file in Path(sys.argv[1]).glob("*.safetensors"))
pool = target._store.keys.nbytes + target._store.values.nbytes
print(psutil.Process().memory_info().rss, weights, pool)
"""


@pytest.mark.model
@pytest.mark.slow
def test_the_verifier_fits_in_weights_and_pool_and_1_gib(models_dir: Path) -> None:
    command = [sys.executable, "-c", SERVE, str(models_dir / "target")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=True)
    rss, weights, pool = (int(figure) for figure in done.stdout.split())
    assert rss <= weights + pool + (1 << 30), f"{rss >> 20} MiB for {weights >> 20} + {pool >> 20}"
