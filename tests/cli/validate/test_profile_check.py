"""A profile of another machine, model or version is recognised."""

from pathlib import Path

import pytest

from cli.validate import profile_check
from shared.planning.profile import Profile, read_profile

FILE = Path(__file__).resolve().parents[3] / "docs/results/profile-smollm2-bfloat16.json"


@pytest.fixture
def profile(monkeypatch: pytest.MonkeyPatch) -> Profile:
    """A profile, on the machine and with the versions that it was measured with."""
    known = read_profile(FILE)
    monkeypatch.setattr(profile_check, "hardware", lambda: known.hardware)
    monkeypatch.setattr(profile_check, "versions", lambda: dict(known.versions))
    return known


def test_the_same_machine_and_model(profile: Profile) -> None:
    assert profile_check.differences(profile, "smollm2", "bfloat16") == []


def test_what_differs_is_named(profile: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    other = profile.hardware.model_copy(update={"cpu": "AMD EPYC", "memory_gb": 1.0})
    monkeypatch.setattr(profile_check, "hardware", lambda: other)
    monkeypatch.setattr(profile_check, "versions", lambda: {**profile.versions, "torch": "9", "numpy": "9"})
    assert profile_check.differences(profile, "qwen2.5-coder", "float32") == [
        "model smollm2, here qwen2.5-coder",
        "dtype bfloat16, here float32",
        "cpu Intel(R) Xeon(R) Processor, here AMD EPYC",
        "torch 2.13.0+cpu, here 9",
    ]
