"""The second half: what its devices read is what the demo means, and what is counted of it."""

from io import StringIO
from math import isnan
from pathlib import Path

import pytest
from rich.console import Console

from cli.demo import emulated_devices
from cli.demo.emulated_devices import VERIFY_MS, acceptance, demo_scenario, write_scenario
from cli.race.race import PADDED_BATCH, RaceRun
from cli.race.recording import write_texts
from cli.race.scenario_run import ScenarioOptions, stack_options
from loadgen.measuring.progress import Steps
from services.draft_worker.fleet import read_recordings
from shared.scenario.scenario import read_scenario


def test_every_user_has_a_device_and_they_are_alike_on_every_machine() -> None:
    fleet = demo_scenario(8).fleet(VERIFY_MS)
    assert [device.name for device in fleet] == [f"device-{n}" for n in range(8)]
    assert fleet == demo_scenario(8).fleet(100 * VERIFY_MS)
    assert all(0.7 <= d.alpha <= 0.9 and 8 <= d.draft_ms <= 16 and 2 <= d.delay_ms <= 10 for d in fleet)


def test_the_devices_read_their_scenario_and_the_target_s_texts(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text('{"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "c": 2}}}')
    texts = ((0, 1, 2, 2), (1, 0))
    write_texts(tmp_path / "texts.json", texts, tmp_path)
    scenario = demo_scenario(2)
    file = write_scenario(scenario, tmp_path / "state")
    options = ScenarioOptions(
        tmp_path, "m", "float32", scenario, file, VERIFY_MS, 1, (2,), tmp_path / "state"
    )
    stack = stack_options(options, tmp_path / "texts.json")
    arguments = dict(zip(stack.devices[::2], stack.devices[1::2], strict=True))
    assert read_scenario(Path(arguments["--scenario"])) == scenario
    recordings = read_recordings(Path(arguments["--recordings"]))
    assert recordings.texts == texts
    assert (recordings.of((0, 1)), recordings.of((1,)), recordings.vocab) == (0, 1, 3)
    assert float(arguments["--verify-ms"]) == VERIFY_MS
    assert (stack.draft_workers, stack.draft_model, stack.env["OUTRIDER_DTYPE"]) == (0, None, "float32")


def test_acceptance_is_what_the_scheduler_counted() -> None:
    counted = {
        "accepted_tokens_total": 30.0,
        'positions_total{position="1",outcome="rejected"}': 6.0,
        'positions_total{position="2",outcome="rejected"}': 4.0,
        'positions_total{position="1",outcome="accepted"}': 20.0,
        'rounds_total{drafted="yes"}': 15.0,
        'rounds_total{drafted="no"}': 99.0,
    }
    assert acceptance(counted) == (pytest.approx(0.75), pytest.approx(3.0))
    assert all(isnan(figure) for figure in acceptance({'rounds_total{drafted="no"}': 9.0}))


async def test_it_is_a_policy_race_and_texts_that_differ_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run_scenario(options: ScenarioOptions, _: Steps) -> dict[str, list[RaceRun]]:
        assert (options.repeats, options.baselines, options.min_prompts) == (3, (2,), 2)
        assert read_scenario(options.file) == options.scenario
        return {
            "greedy-batch": [RaceRun(20.0, {0: 10.0, 1: 10.0})],
            "outrider": [RaceRun(30.0, {0: 10.0, 1: 20.0}, wrong=["user 0"])],
            PADDED_BATCH: [RaceRun(5.0)],
        }

    monkeypatch.setattr(emulated_devices, "run_scenario", run_scenario)
    async with Steps(Console(file=StringIO())) as steps:
        runs = await emulated_devices.run(tmp_path, "m", "float32", demo_scenario(2), 3, tmp_path, steps)
    assert list(runs) == ["generate", "greedy-batch", "outrider"]
    assert [run.same for repeats in runs.values() for run in repeats] == [None, True, False]
    assert [run.tokens_per_s for repeats in runs.values() for run in repeats] == [5.0, 20.0, 30.0]
    assert runs["greedy-batch"][0].tpot_ms == pytest.approx(100.0)
