"""A stack whose devices are emulated: draft workers in one process that replay what the target said."""

from collections.abc import Mapping
from pathlib import Path

from cli.stack.stack import Options, Ports


def emulated(
    target: Path,
    name: str,
    scenario: Path,
    recordings: Path,
    state_dir: Path,
    *,
    verify_ms: float,
    env: Mapping[str, str],
) -> Options:
    """What to run. scenario, recordings, verify_ms: see services/draft_worker/fleet.py. env: for every service."""
    return Options(
        target,
        None,
        name,
        draft_workers=0,
        ports=Ports.free(),
        state_dir=state_dir,
        env=env,
        devices=(
            "--scenario",
            str(scenario.resolve()),
            "--recordings",
            str(recordings.resolve()),
            "--verify-ms",
            f"{verify_ms:.4f}",
        ),
    )
