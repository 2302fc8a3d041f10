"""The doctor's checks."""

from pathlib import Path

import pytest

from cli.doctor import checks
from cli.doctor.run import run_doctor
from cli.models import stamp, store
from shared.broker import embedded
from shared.protocol.vocabulary import Entry, Vocabulary


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTRIDER_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)


def vocabulary(*texts: str) -> Vocabulary:
    return Vocabulary.from_entries(Entry(index, text.encode(), False) for index, text in enumerate(texts))


def test_the_same_vocabulary() -> None:
    assert checks.compare(vocabulary("a", "b"), vocabulary("a", "b")).passed


def test_other_vocabularies_name_the_first_ids() -> None:
    finding = checks.compare(vocabulary("a", "b", "c"), vocabulary("a", "x"))
    assert not finding.passed
    assert "id 1: draft 'b', target 'x'; id 2: draft 'c', target nothing" in finding.message


def test_a_damaged_model_is_named() -> None:
    folder = store.folder("mine")
    folder.path.mkdir(parents=True)
    folder.draft.write_bytes(b"GGUF")
    stamp.write(folder, "draft.gguf", "by hand", {})
    assert checks.check_model("mine").message == "mine: 1 files, 0 kB, all hashes match"
    folder.draft.write_bytes(b"GGUX")
    finding = checks.check_model("mine")
    assert not finding.passed
    assert f"{folder.draft}: expected sha256 " in finding.message
    assert "outrider models fetch mine" in finding.message


def test_a_broker_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTRIDER_BROKER_URL", "redis://127.0.0.1:1/0")
    finding = checks.check_broker()
    assert not finding.passed
    assert finding.message.startswith("redis://127.0.0.1:1/0: ")


def test_an_address_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTRIDER_BROKER_URL", "http://127.0.0.1")
    assert not checks.check_broker().passed


def test_the_embedded_broker_answers() -> None:
    finding = checks.check_broker()
    assert finding.passed
    assert finding.message.startswith("embedded, redis://127.0.0.1:")


def test_no_server_program(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise embedded.NoServer("no broker: install the package")

    monkeypatch.setattr(embedded, "server_binary", none)
    assert checks.check_broker() == checks.Finding("broker", False, "no broker: install the package")


def test_missing_model_is_one_line_and_an_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_doctor("smollm2", quick=True, out=tmp_path / "profile.json") == 1
    assert "outrider models fetch smollm2" in capsys.readouterr().out
    assert not (tmp_path / "profile.json").exists()
