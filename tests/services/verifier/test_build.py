"""Building the target that the settings name."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel
from tokenizers.models import BPE
from transformers import AutoModelForCausalLM, LlamaConfig

from services.verifier.build import build_drafter, build_target, warm
from services.verifier.loading import load_target
from shared.compute.core_drafter import LookupDrafter
from shared.compute.drafter import DraftRequest
from shared.compute.modelled_target import ModelledTarget
from shared.compute.target import TargetRow
from shared.runtime.settings import SettingsError, VerifierSettings, load
from shared.speculative.params import SamplingParams
from tests.services.verifier.tiny import SIZE


def test_a_modelled_target_has_the_settings_costs_and_bounds() -> None:
    settings = load(
        VerifierSettings, target="modelled", model_beta_ms=7, model_vocab=99, kv_tokens=512, max_context=64
    )
    target, blocks = build_target(settings)
    assert (target.cost_s([]), target.vocab, target.pool_tokens, target.max_context) == (0.007, 99, 512, 64)
    assert blocks == ""


def test_a_real_target_needs_a_folder() -> None:
    with pytest.raises(SettingsError, match="OUTRIDER_MODEL_DIR"):
        build_target(load(VerifierSettings, model_dir=""))


def test_the_core_drafts_by_lookups_unless_a_model_is_named() -> None:
    settings = load(VerifierSettings, target="torch")
    assert isinstance(build_drafter(settings, ModelledTarget(100)), LookupDrafter)


def tiny_folder(folder: Path, words: Sequence[str]) -> str:
    """A random model with a vocabulary of these letters."""
    tokenizer = Tokenizer(BPE({word: n for n, word in enumerate(words)}, []))
    tokenizer.decoder = ByteLevel()
    model = AutoModelForCausalLM.from_config(LlamaConfig(**{**SIZE, "vocab_size": len(words)}))
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return str(folder)


def test_a_core_draft_of_another_vocabulary_is_refused_by_name(tmp_path: Path) -> None:
    words = [chr(65 + n) for n in range(40)]
    settings = load(VerifierSettings, core_draft=tiny_folder(tmp_path, words), kv_tokens=256)
    with pytest.raises(SettingsError, match=r"OUTRIDER_CORE_DRAFT=.*its vocabulary is not the target's"):
        build_drafter(settings, ModelledTarget(40))


def test_a_core_draft_of_the_targets_vocabulary_drafts(tmp_path: Path) -> None:
    words = [chr(65 + n) for n in range(40)]
    settings = load(VerifierSettings, core_draft=tiny_folder(tmp_path, words), kv_tokens=256)
    target = load_target(settings.core_draft, dtype="float32", device="cpu", kv_tokens=256)
    drafter = build_drafter(settings, target)
    sampling = SamplingParams(seed=3, vocab=40, temperature=0.8)
    ((*draft,),) = drafter.draft([DraftRequest("s", [5, 6, 7], 4, sampling)])
    target.admit("t", (5, 6, 7), ["t"], 7)
    row = TargetRow("t", 0, (5, 6, 7, *draft), 3, choose=True, sampling=sampling)
    assert list(target.forward([row])[0].tokens[:4]) == draft  # the same weights draw the same tokens


def test_warming_leaves_nothing_behind() -> None:
    target = ModelledTarget(100)
    warm(target)
    assert target.pages()[0] == 0
    assert target.sessions() == set()
