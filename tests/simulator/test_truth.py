"""The truth about drafts: it says of every position what a drafter then drafts."""

from pathlib import Path

import pytest

from shared.compute.acceptance_record import Replay, read_record
from shared.compute.drafter import DraftRequest
from shared.compute.modelled import expected_text
from shared.compute.modelled_drafter import ModelledDrafter
from shared.protocol.session import SessionSpec
from shared.scenario.scenario import DeviceSpec
from shared.speculative.params import SamplingParams
from simulator.truth import Truth
from tests.simulator.runs import SCENARIOS

PROMPT = tuple(range(10, 20))
RECORD = str(SCENARIOS / "recordings" / "smollm2.json")
REPLAYS = {RECORD: Replay(read_record(Path(RECORD)))}


def spec(session: str) -> SessionSpec | None:
    """Sessions are called by their seed."""
    if not session.isdecimal():
        return None
    return SessionSpec(session, PROMPT, SamplingParams(seed=int(session), vocab=1000), 200, (), "g:1", 1000)


def device(recording: str = "") -> DeviceSpec:
    return DeviceSpec("d", 0.8, 5.0, 10.0, 0.0, 1, recording=recording)


@pytest.mark.parametrize("recording", ["", RECORD])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_draft_matches_as_far_as_the_truth_says(recording: str, seed: int) -> None:
    truth = Truth([device(recording)], REPLAYS, spec)
    drafter = ModelledDrafter(0.8, vocab=1000, replay=REPLAYS.get(recording))
    sampling = SamplingParams(seed=seed, vocab=1000)
    ids = PROMPT + expected_text(PROMPT, sampling, 100, stop_ids=())
    drafter.start(DraftRequest(str(seed), PROMPT, 0, sampling))  # as its Open does
    drafter.step()
    found = set()
    for base in range(len(PROMPT), len(ids) - 16):
        drafter.start(DraftRequest(str(seed), ids[:base], 16, sampling))
        while not (results := drafter.step()):
            pass
        (result,) = results
        right = [a == b for a, b in zip(result.tokens, ids[base : base + 16], strict=True)]
        matches = truth.matches(str(seed), "d:1", base)
        assert matches == (right.index(False) if False in right else 16)
        assert truth.matches(str(seed), "d", base, limit=2) == min(matches, 2)
        found.add(matches)
    assert len(found) > 4


def test_nothing_matches_of_unknown_sessions_and_devices() -> None:
    truth = Truth([device()], REPLAYS, spec)
    assert truth.matches("nobody's", "d:1", 12) == 0
    assert truth.matches("1", "other:1", 12) == 0
