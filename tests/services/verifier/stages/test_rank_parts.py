"""What a rank makes of its settings, and what it keeps from one group to the next."""

from pathlib import Path

import pytest

from services.verifier.stages.messages import Assign
from services.verifier.stages.rank_parts import (
    Assigner,
    BlockLoader,
    FrontLoader,
    ModelPlan,
    alike,
    facts_of,
    model_plan,
)
from services.verifier.stages.torch_outer_layers import TorchOuterLayers
from shared.runtime.service import BadFile
from shared.runtime.settings import SettingsError, VerifierSettings
from tests.services.verifier.stages.ranks import model
from tests.services.verifier.stages.rings import facts


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model(tmp_path_factory.mktemp("model"))


def settings(folder: Path | str, **changed: object) -> VerifierSettings:
    values = {"model_dir": str(folder), "stages": 2, "dtype": "float32", "kv_tokens": 1030, "target": "torch"}
    return VerifierSettings.model_validate({**values, **changed})


def parts(folder: Path, **changed: object) -> tuple[VerifierSettings, ModelPlan]:
    own = settings(folder, **changed)
    return own, model_plan(own)


def test_the_facts_of_a_rank(folder: Path) -> None:
    own, plan = parts(folder)
    front, stage = facts_of(own, plan, 0), facts_of(own, plan, 1)
    assert (front.dtype, front.kv_tokens, front.page_tokens) == ("float32", 1030, own.page_tokens)
    assert front.layer_ms == 0.0 < stage.layer_ms
    assert front.model == stage.model
    assert "torch " in front.libraries


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"stages": 5}, "OUTRIDER_STAGES=5: 5 stages for a model of 4 layers"),
        ({"stage_layers": "3,2"}, "OUTRIDER_STAGE_LAYERS=3,2: .* has to be 2 with 4"),
        ({"target": "modelled"}, "OUTRIDER_STAGES=2: a modelled target has no layers"),
        ({"model_dir": ""}, "OUTRIDER_MODEL_DIR: not set"),
    ],
)
def test_settings_that_cannot_work_are_refused(folder: Path, changed: dict[str, object], line: str) -> None:
    with pytest.raises(SettingsError, match=line):
        model_plan(settings(folder, **changed))


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="OUTRIDER_MODEL_DIR="):
        model_plan(settings(tmp_path))


def test_layers_are_given_by_speed_and_stay_where_they_are(folder: Path) -> None:
    assign = Assigner(*parts(folder))
    first = assign([facts(0), facts(1, layer_ms=1.0), facts(2, layer_ms=3.0)])
    assert first.layers == (3, 1)
    assert (
        assign([facts(0), facts(1, layer_ms=1.0), facts(2, layer_ms=1.6)]) is first
    )  # measured beside other work
    assert assign([facts(0), facts(1, layer_ms=1.0), facts(2, layer_ms=1.0)]).layers == (2, 2)


def test_a_split_by_a_setting(folder: Path) -> None:
    assign = Assigner(*parts(folder, stage_layers="1,3"))
    assert assign([facts(0), facts(1), facts(2)]).layers == (1, 3)


def test_speeds_that_are_about_the_same() -> None:
    cpu, quick = ("cpu", 1.0), ("cpu", 0.5)
    assert alike([cpu, cpu], [cpu, quick])
    assert not alike([cpu, cpu], [cpu, ("cpu", 0.49)])
    assert not alike([cpu], [("cuda", 1.0)])
    assert not alike([cpu], [cpu, cpu])


def test_a_stage_keeps_its_layers_and_never_its_pool(folder: Path) -> None:
    load = BlockLoader(*parts(folder), 2)
    first = load(Assign((3, 1), 300))
    again = load(Assign((3, 1), 300))
    assert again._body is first._body
    assert again._store is not first._store
    assert again._store.slots == 1024  # whole pages
    assert load(Assign((2, 2), 300))._body is not first._body


def test_rank_0_keeps_its_weights_and_never_its_sessions(folder: Path) -> None:
    load = FrontLoader(*parts(folder))
    first = load()
    assert first.admit("a", (1, 2, 3), [], 3)
    again = load()
    assert isinstance(first._outer, TorchOuterLayers)
    assert isinstance(again._outer, TorchOuterLayers)
    assert again._outer._front is first._outer._front
    assert again.pages()[0] == 0 < first.pages()[0]


def test_rank_0_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    (model(tmp_path / "model") / "tokenizer.json").write_text("[]")
    with pytest.raises(BadFile, match=r"OUTRIDER_MODEL_DIR=.*tokenizer\.json"):
        FrontLoader(*parts(tmp_path / "model"))()
