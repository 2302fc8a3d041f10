"""Building the target that the settings name."""

import pytest

from services.verifier.build import build_target, warm
from shared.compute.modelled_target import ModelledTarget
from shared.runtime.settings import SettingsError, VerifierSettings, load


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


def test_warming_leaves_nothing_behind() -> None:
    target = ModelledTarget(100)
    warm(target)
    assert target.pages()[0] == 0
    assert target.sessions() == set()
