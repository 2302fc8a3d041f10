"""The second half: what its devices read is what the demo means, and who serves whom."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from loadgen.request import ChatRequest
from services.demo.elsewhere import VERIFY_MS, devices_elsewhere, generate, options
from services.demo.reference import Text
from services.draft_worker.fleet import read_recordings
from services.local.rival import Answered, Rival
from shared.scenario.scenario import read_scenario


def test_every_user_has_a_device_and_they_are_alike_on_every_machine() -> None:
    fleet = devices_elsewhere(8).fleet(VERIFY_MS)
    assert [device.name for device in fleet] == [f"device-{n}" for n in range(8)]
    assert fleet == devices_elsewhere(8).fleet(100 * VERIFY_MS)
    assert all(0.7 <= d.alpha <= 0.9 and 8 <= d.draft_ms <= 16 and 2 <= d.delay_ms <= 10 for d in fleet)


def test_the_devices_read_their_scenario_and_the_reference_s_texts(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    vocabulary = {"a": 0, "b": 1, "c": 2}
    (target / "tokenizer.json").write_text(json.dumps({"model": {"type": "BPE", "vocab": vocabulary}}))
    scenario = devices_elsewhere(2)
    texts = [Text((0, 1), (2, 2)), Text((1,), (0,))]
    asked = options(target, "m", "float32", texts, scenario, tmp_path / "state")
    arguments = dict(zip(asked.devices[::2], asked.devices[1::2], strict=True))
    assert read_scenario(Path(arguments["--scenario"])) == scenario
    recordings = read_recordings(Path(arguments["--recordings"]))
    assert recordings.texts == ((0, 1, 2, 2), (1, 0))
    assert (recordings.of((0, 1)), recordings.of((1,)), recordings.vocab) == (0, 1, 3)
    assert float(arguments["--verify-ms"]) == VERIFY_MS
    assert (asked.draft_workers, asked.draft_model, asked.env["OUTRIDER_DTYPE"]) == (0, None, "float32")


async def test_generate_counts_the_tokens_that_came_without_padding() -> None:
    class Answers:
        async def ask(self, job: Mapping[str, Any]) -> Answered:
            assert job == {"prompts": ["a", "b"], "tokens": 4, "assisted": False}
            return Answered([[1, 2, 3, 4], [1, 2]], 2.0)

    requests = [ChatRequest("user-1", "m", "a", 4), ChatRequest("user-2", "m", "b", 4)]
    run = await generate(cast(Rival, Answers()), requests)
    assert run.tokens_per_s == pytest.approx(3.0)
    assert run.records == ()
