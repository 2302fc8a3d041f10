"""Real draft workers as they are simulated: which text a request has, and what its draft costs."""

from pathlib import Path

from cli.validate.drafters import Drafts, simulated
from loadgen.run.scenario_users import prompt_of, seed_of
from shared.compute.acceptance_record import AcceptanceRecord, RecordedText
from shared.speculative.params import SamplingParams
from simulator.scenario import read_simulated

SCENARIO = Path(__file__).resolve().parents[3] / "scenarios" / "drafters.yaml"
TEXTS = tuple(RecordedText(0.0, 0, (n % 2 == 0, True), (False, False), b"\xff\xff") for n in range(18))


def test_each_request_replays_the_text_of_its_prompt() -> None:
    scenario = read_simulated(SCENARIO)
    fields = simulated(scenario, Drafts(AcceptanceRecord({}, TEXTS), 15.0, 0.2))
    (replay,) = fields["replays"].values()
    for user, turn in ((0, 0), (1, 0), (1, 7), (0, 30)):
        right = replay.is_right(SamplingParams(seed_of(scenario, user, turn), 100, 0.0), 0)
        assert right == TEXTS[prompt_of(user, turn, len(TEXTS))].hits[0]
    devices = fields["scenario"].fleet(verify_ms=50.0)
    assert [device.draft_ms for device in devices] == [15.0, 15.0]
    assert {device.recording for device in devices} == set(fields["replays"])
