"""The profile file: written, read, and errors that name file and field."""

import json
from pathlib import Path
from typing import Any

import pytest

from shared.planning.profile import AtUsers, BrokerCosts, Profile, ProfileError, read_profile, write_profile

PROFILE: dict[str, Any] = {
    "schema": 1,
    "date": "2026-01-02T03:04:05+00:00",
    "hardware": {"cpu": "a chip", "cores": 2, "memory_gb": 7.5, "gpu": None, "system": "Linux"},
    "versions": {"python": "3.11.7"},
    "model": "smollm2",
    "dtype": "float32",
    "threads": 2,
    "quick": False,
    "server": {
        "law": "packed",
        "beta_ms": 44.5,
        "per_token_ms": 1.25,
        "per_context_ms": 0.004,
        "memory_bytes": 754974720,
        "kv_bytes_per_token": 46080,
    },
    "padded": {
        "law": "padded",
        "layers": 30,
        "hidden": 576,
        "ffn": 1536,
        "c": 6e-9,
        "beta_ms": 50.5,
        "memory_bytes": 1e9,
    },
    "pass_beta_ms": {"packed": 40.0, "padded": 46.0},
    "errors": {
        "packed": {
            "points": 48,
            "held_out": 24,
            "mean": 0.04,
            "bias": -0.01,
            "worst": -0.12,
            "single_token": 0.6,
            "few_tokens": 0.1,
        },
        "padded": {
            "points": 48,
            "held_out": 24,
            "mean": 0.05,
            "bias": 0.01,
            "worst": 0.2,
            "single_token": None,
            "few_tokens": None,
        },
    },
    "draft": {
        "ms_per_token": 11.5,
        "ms_by_sessions": {"1": 11.5, "2": 16.0, "4": 22.0},
        "context": 128,
        "threads": 1,
    },
    "broker": {
        "batch_ms": 4.5,
        "users": [
            {
                "users": 8,
                "batches": 55,
                "cycle_ms": 60.0,
                "batch_ms": 4.5,
                "gap_ms": 4.0,
                "pass_over_fit": 1.01,
            }
        ],
    },
    "alpha": {"0.0": 0.8, "1.0": 0.75},
}


def changed(where: str, value: object) -> dict[str, Any]:
    """The profile with one field, named with dots, changed; ... removes it."""
    data: dict[str, Any] = json.loads(json.dumps(PROFILE))
    *path, last = where.split(".")
    inner = data
    for part in path:
        inner = inner[part]
    inner[last] = value
    if value is ...:
        del inner[last]
    return data


def write(path: Path, data: object) -> Path:
    path.write_text(json.dumps(data))
    return path


def test_a_profile_is_read_as_it_was_written(tmp_path: Path) -> None:
    profile = read_profile(write(tmp_path / "a.json", PROFILE))
    assert profile.draft.ms_by_sessions[4] == 22.0
    assert profile.alpha == {0.0: 0.8, 1.0: 0.75}
    out = tmp_path / "new" / "b.json"
    write_profile(out, profile)
    write_profile(out, profile)
    assert read_profile(out) == profile
    assert json.loads(out.read_text()).items() >= PROFILE.items()
    assert [path.name for path in out.parent.iterdir()] == ["b.json"]


def test_broker_and_alpha_may_be_missing(tmp_path: Path) -> None:
    data = changed("broker", None)
    data["server"]["beta_ms"], data["padded"]["beta_ms"] = 40.0, 46.0
    del data["alpha"]
    profile = read_profile(write(tmp_path / "a.json", data))
    assert profile.broker is None
    assert profile.alpha is None


def test_the_brokers_share_is_part_of_both_laws() -> None:
    profile = Profile.model_validate_json(json.dumps(PROFILE))
    run = AtUsers(users=2, batches=9, cycle_ms=50.0, batch_ms=7.0, gap_ms=6.0, pass_over_fit=1.0)
    again = profile.with_broker(BrokerCosts(batch_ms=7.0, users=(run,)))
    assert (again.server.beta_ms, again.padded.beta_ms) == (47.0, 53.0)
    assert again.pass_beta_ms == profile.pass_beta_ms
    assert Profile.model_validate_json(again.model_dump_json(by_alias=True)) == again


@pytest.mark.parametrize(
    ("where", "value", "named"),
    [
        ("schema", 2, "schema: "),
        ("schema", ..., "schema: "),
        ("server", ..., "server: "),
        ("server.law", "padded", "server.law: "),
        ("server.per_token_ms", -1.0, "server.per_token_ms: "),
        ("server.per_token_ms", "1", "server.per_token_ms: "),
        ("server.beta_ms", 99.0, "server.beta_ms: 99 is not pass_beta_ms 40 + broker.batch_ms 4.5"),
        ("padded.beta_ms", 99.0, "padded.beta_ms: "),
        ("errors.packed.held_out", 0, "errors.packed.held_out: "),
        ("draft.ms_by_sessions", {}, "draft.ms_by_sessions: "),
        ("broker.batch_ms", float("nan"), "broker.batch_ms: "),
        ("broker.users", [], "broker.users: "),
        ("alpha", {"0.0": 1.5}, "alpha.0.0: "),
        ("surprise", 1, "surprise: "),
    ],
)
def test_a_bad_field_is_named_with_the_file(tmp_path: Path, where: str, value: object, named: str) -> None:
    path = write(tmp_path / "a.json", changed(where, value))
    with pytest.raises(ProfileError) as caught:
        read_profile(path)
    assert f"{path}: " in str(caught.value)
    assert named in str(caught.value)


@pytest.mark.parametrize("text", ["", "not json", "[1]"])
def test_other_files_are_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(ProfileError, match=str(path)):
        read_profile(path)


def test_a_missing_file_says_what_makes_one(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"a\.json: no such file; `outrider calibrate` writes one"):
        read_profile(tmp_path / "a.json")
