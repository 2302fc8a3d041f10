"""Records of a draft's agreement: written, read and replayed."""

import json
from pathlib import Path

import pytest

from shared.compute.acceptance_record import (
    AcceptanceRecord,
    RecordedText,
    RecordError,
    Replay,
    read_record,
    write_record,
)
from shared.compute.drafter import DraftRequest
from shared.compute.modelled import expected_text
from shared.compute.modelled_drafter import ModelledDrafter
from shared.speculative.params import SamplingParams
from shared.speculative.rule import accept_chain
from shared.speculative.survival import to_byte

GREEDY = RecordedText(0.0, 3, (True, False, True), (False, True, False), b"\xff\x40\x80", {1: b"\x01" * 15})
WARM = RecordedText(1.0, 4, (False, False), (True, False), b"\x00\x01", {0: b"\x02" * 15, 1: b"\x03" * 15})
RECORD = AcceptanceRecord({"model": "m"}, (GREEDY, WARM))


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_record(tmp_path / "r.json", RECORD)
    assert read_record(tmp_path / "r.json").texts == RECORD.texts
    assert read_record(tmp_path / "r.json").header["model"] == "m"
    assert RECORD.alpha == pytest.approx(2 / 5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema": 2}, "schema: this version reads schema 1"),
        ({"texts": []}, "texts: none"),
        ({"texts": [{"hits": "012"}]}, "not a record"),
        ({"texts": None}, "not a record"),
    ],
)
def test_other_files_are_refused_with_their_name(
    tmp_path: Path, change: dict[str, object], words: str
) -> None:
    write_record(tmp_path / "r.json", RECORD)
    document = json.loads((tmp_path / "r.json").read_text())
    (tmp_path / "r.json").write_text(json.dumps({**document, **change}))
    with pytest.raises(RecordError, match=rf"r\.json: {words}"):
        read_record(tmp_path / "r.json")


@pytest.mark.parametrize("content", ["", "[]", '{"schema": 1}', "\ud800"])
def test_what_is_no_record_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "r.json").write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(RecordError, match=r"r\.json"):
        read_record(tmp_path / "r.json")
    with pytest.raises(RecordError, match="`outrider record` writes one"):
        read_record(tmp_path / "missing.json")


def test_a_replay_takes_the_texts_of_the_nearest_temperature_and_begins_again_at_their_end() -> None:
    replay, greedy, warm = Replay(RECORD), SamplingParams(7, 100), SamplingParams(7, 100, 0.9)
    assert [replay.is_right(greedy, at) for at in range(5)] == [True, False, True, True, False]
    assert not any(replay.is_right(warm, at) for at in range(4))


def test_a_replayed_draft_is_as_sure_as_the_record_on_the_path_and_off_it() -> None:
    sure = bytes((255, 51, 204))  # of the tokens right, wrong, right
    text = RecordedText(0.0, 1, (True, False, True), (False,) * 3, sure, {1: bytes((102, 153))})
    drafter = ModelledDrafter(vocab=1000, replay=Replay(AcceptanceRecord({}, (text,))))
    drafter.start(DraftRequest("s", (1, 2, 3), 5, SamplingParams(5, 1000)))
    results = []
    while drafter.busy():
        results += drafter.step()
    shares = [
        0.2,
        0.2 * 0.4,
        0.2 * 0.4 * 0.6,
        0.2 * 0.4 * 0.6 * 0.6,
    ]  # the tail's last stands for further ones
    assert list(results[0].survival) == [255, *(to_byte(share) for share in shares)]


@pytest.mark.parametrize("k", [1, 3, 8])
def test_drafts_are_right_where_the_record_says_so_whatever_the_length(k: int) -> None:
    hits = tuple(bool(0b1011011101 >> n & 1) for n in range(10))
    text = RecordedText(0.0, 1, hits, (False,) * 10, bytes(10))
    drafter = ModelledDrafter(vocab=1000, replay=Replay(AcceptanceRecord({}, (text,))))
    sampling, prompt = SamplingParams(5, 1000), (1, 2, 3)
    target = expected_text(prompt, sampling, 60, stop_ids=())
    done = 0
    while done + k < 40:
        drafter.start(DraftRequest("s", prompt + target[:done], k, sampling))
        results = []
        while drafter.busy():
            results += drafter.step()
        accepted = accept_chain(results[0].tokens, target[done : done + k + 1])
        expected = next((i for i in range(k) if not hits[(done + i) % 10]), k)
        assert accepted == expected
        done += accepted + 1
