"""The same seed gives the same bytes in any process; another seed gives others."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# What could differ: jitter and loss, tasks that a kill or the end of the run cancels, requests due at the same time.
SCENARIO = """
about: Everything random at once.
seed: 1
core: {verifiers: 2, gateways: 2, hop: 0.25 ms}
devices:
  - count: 4
    alpha: 0.5..0.9
    draft: 4..9 ms
    link: {delay: 2..20 ms, jitter: 5 ms, loss: 0.02, bandwidth: 200..900 kbit}
load: {concurrency: 12, requests: 60, prompt-tokens: 16..64, answer-tokens: "60~0.5", duration: 5, drain: 0.5}
faults:
  - {at: 1 s, kill: verifier-0, back: 0.5 s}
  - {at: 2 s, kill: gateway-1, back: 0.5 s}
  - {at: 3 s, kill: device-2, back: 0.5 s}
policies: [{policy: fixed-k, k: 3}, outrider]
"""


# Ranks of a pipeline die, sessions lose their pages, and draft trees are cut in the middle.
PIPELINE = """
about: A pipeline.
seed: 1
devices: [{count: 4, alpha: 0.75, draft: 10 ms, link: {delay: 5 ms}}]
core:
  kv_tokens: 768
  stages: {count: 3, beta_ms: 40, per_token_ms: 0.5, head_ms: 3, trees: {draft_ms: 8}}
load: {concurrency: 6, requests: 20, prompt-tokens: 16..200, answer-tokens: 20..60}
faults:
  - {at: 3 s, kill: verifier-0-stage-2, back: 1 s}
  - {at: 9 s, kill: verifier-0, back: 1 s}
policies: [{policy: fixed-k, k: 4, window: flowspec}]
"""


def simulated(folder: Path, hash_seed: str, seed: int = 1, scenario: str = SCENARIO) -> dict[str, bytes]:
    """The files of a run in a process of its own, by name."""
    folder.mkdir()
    (folder / "random.yaml").write_text(scenario, encoding="utf-8")
    command = [
        "-m",
        "cli.main",
        "simulate",
        "random.yaml",
        "--seed",
        str(seed),
        "--trace",
        "-q",
        "--out",
        "out",
    ]
    subprocess.run(
        [sys.executable, *command],
        check=True,
        cwd=folder,
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
    )
    return {path.name: path.read_bytes() for path in sorted((folder / "out" / "random").iterdir())}


@pytest.mark.slow
def test_a_run_is_the_same_in_every_process(tmp_path: Path) -> None:
    first = simulated(tmp_path / "first", hash_seed="0")
    assert {Path(name).suffix for name in first} == {".json", ".jsonl", ".csv"}
    ends = [json.loads(line)["fault"] for line in first["outrider.requests.jsonl"].splitlines()]
    assert {"", "cut", "stopped"} <= set(ends)
    again = simulated(tmp_path / "again", hash_seed="1")
    assert again.keys() == first.keys()
    assert [name for name in first if again[name] != first[name]] == []
    other = simulated(tmp_path / "other", hash_seed="0", seed=2)
    assert [name for name in first if other[name] == first[name]] == []


@pytest.mark.slow
def test_a_pipeline_runs_the_same_in_every_process(tmp_path: Path) -> None:
    first = simulated(tmp_path / "first", hash_seed="0", scenario=PIPELINE)
    again = simulated(tmp_path / "again", hash_seed="1", scenario=PIPELINE)
    assert again == first
