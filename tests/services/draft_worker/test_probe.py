"""The probe: the installed llama.cpp decodes batches of 1 and 32 and drafts, with both ways to make a file."""

import os
from collections.abc import Callable

import llama_cpp
import numpy as np
import pytest

from services.draft_worker import probe
from services.draft_worker.llama_drafter import Limits, LlamaDrafter
from services.draft_worker.llama_model import ModelFileError
from services.draft_worker.tiny_model import CONTEXT, VOCAB, tiny_model
from shared.compute.drafter import DraftRequest, DraftResult

LIMITS = Limits(sessions=1, kv_tokens=CONTEXT)


def test_it_decodes_batches_of_1_and_32_to_finite_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[int] = []
    real: Callable[..., int] = llama_cpp.llama_decode

    def decode(context: object, batch: llama_cpp.llama_batch) -> int:
        code = real(context, batch)
        batches.append(batch.n_tokens)
        if batch.logits[batch.n_tokens - 1]:
            logits = np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(context, -1), shape=(VOCAB,))
            assert np.isfinite(logits).all()
            assert 0.1 < np.std(logits) < 100
        return code

    monkeypatch.setattr(llama_cpp, "llama_decode", decode)
    with probe.tiny_file() as path:
        drafter = LlamaDrafter(path, LIMITS)
    try:
        assert drafter.vocab == VOCAB
        assert probe.run_probe(drafter) == ""
    finally:
        drafter.close()
    assert batches == [1, 32, 1, 1, 1, 1]


def test_without_files_in_memory_it_uses_one_on_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    with probe.tiny_file() as path:
        assert path.read_bytes() == tiny_model()
    assert not path.exists()


def test_what_llama_cpp_does_not_load_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise ModelFileError("tiny: not a GGUF model that llama.cpp can load: unknown type")

    monkeypatch.setattr(probe, "LlamaDrafter", refuse)
    with pytest.raises(SystemExit, match=r"not a GGUF model that llama\.cpp can load: unknown type"):
        probe.main()
    assert " = 1" in capsys.readouterr().out


class Lame:
    """Drafts fewer tokens than it was asked for."""

    vocab = VOCAB

    def __init__(self) -> None:
        self.waiting: list[DraftRequest] = []

    def start(self, request: DraftRequest) -> None:
        self.waiting.append(request)

    def busy(self) -> bool:
        return bool(self.waiting)

    def step(self) -> list[DraftResult]:
        request = self.waiting.pop()
        return [
            DraftResult(
                "probe",
                len(request.ids),
                (7,) * (request.k // 2),
                bytes(request.k // 2),
                1,
                "llama_decode answered -3",
            )
        ]


def test_a_short_draft_is_told() -> None:
    assert probe.run_probe(Lame()) == "llama.cpp drafted 0 of 0 tokens: llama_decode answered -3"  # type: ignore[arg-type]
