"""`loadgen fleet`, from its options to its file."""

import asyncio
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import typer

from loadgen.commands import fleet as command
from loadgen.fleet import FleetSample
from shared.broker.contract import BrokerAway
from shared.runtime import logs

SCENARIO = Path(__file__).resolve().parents[3] / "scenarios" / "jittery.yaml"


def sample(at_s: float) -> FleetSample:
    return FleetSample(at_s, 1, 1, round(10 * at_s), 40, 5, 0, 0, 100, 100, 50, 10, 80.0)


async def run(out: Path) -> int:
    with pytest.raises(typer.Exit) as ended:
        await command._fleet(SCENARIO, "redis://127.0.0.1:9/0", None, 40.0, None, out)
    return int(ended.value.exit_code)


@pytest.mark.parametrize("seen", [0, 2])
async def test_a_broker_that_goes_leaves_what_was_seen(
    seen: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def broken(*given: Any) -> Sequence[FleetSample]:
        shown: Callable[[FleetSample], None] = given[-1]
        for at_s in range(seen):
            shown(sample(at_s + 1.0))
        await asyncio.sleep(0)
        raise BrokerAway("the broker is away")

    monkeypatch.setattr(command, "run_fleet", broken)
    monkeypatch.setattr(logs, "configure", lambda *_, **__: None)  # other tests' logs stay as they are
    out = tmp_path / "fleet.json"
    assert await run(out) == 2
    assert "loadgen: the broker is away" in capsys.readouterr().err
    assert out.exists() == bool(seen)
    if seen:
        assert len(json.loads(out.read_text())["looks"]) == 2


async def test_a_folder_as_out_is_refused_before_devices_join(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def joined(*_: Any) -> Sequence[FleetSample]:
        raise BrokerAway("devices join")

    monkeypatch.setattr(command, "run_fleet", joined)
    monkeypatch.setattr(logs, "configure", lambda *_, **__: None)
    assert await run(tmp_path) == 2
    assert f"--out {tmp_path} is a folder" in capsys.readouterr().err


async def test_samples_that_cannot_be_written_are_kept_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (temporary := tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    out = tmp_path / "fleet.json"

    async def blocked(*given: Any) -> Sequence[FleetSample]:
        shown: Callable[[FleetSample], None] = given[-1]
        shown(sample(1.0))
        out.mkdir()
        raise BrokerAway("the broker is away")

    monkeypatch.setattr(command, "run_fleet", blocked)
    monkeypatch.setattr(logs, "configure", lambda *_, **__: None)
    assert await run(out) == 2
    (kept,) = temporary.glob("*/fleet.json")
    assert len(json.loads(kept.read_text())["looks"]) == 1
