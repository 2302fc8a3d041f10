"""`outrider plan` with objective `goodput`: question and answer, and errors that name field and user."""

import math
from typing import Any

import pytest

from tests.cli.plan.queries import answer, outrider_plan

SERVER = {
    "law": "packed",
    "beta_ms": 30.0,
    "per_token_ms": 0.5,
    "per_context_ms": 0.001,
    "memory_bytes": 1e9,
    "kv_bytes_per_token": 46080.0,
}
USERS: list[dict[str, Any]] = [
    {
        "id": f"u{k}",
        "alpha": 0.6 + 0.1 * k,
        "prefix": 100,
        "draft_ms_per_token": 4.0 + k,
        "cell": "c1",
        "eta": 0.5 + k,
        "bits_per_token": 2000.0,
    }
    for k in range(4)
]
QUESTION: dict[str, Any] = {
    "objective": "goodput",
    "server": SERVER,
    "max_draft": 6,
    "cells": [{"id": "c1", "bandwidth_hz": 1e6}],
    "users": USERS,
}
ROUND_KEYS = {"goodput_tokens_per_s", "round_ms", "draft_length", "late"}


def changed(**fields: object) -> dict[str, Any]:
    return {**QUESTION, **fields}


def with_user(**fields: object) -> dict[str, Any]:
    """The first user with other fields; None takes a field away."""
    user = {key: value for key, value in {**USERS[0], **fields}.items() if value is not None}
    return changed(users=[user, *USERS[1:]])


def expected_tokens(plan: dict[str, Any]) -> float:
    lengths = plan["draft_length"]
    return sum((1 - u["alpha"] ** (lengths[u["id"]] + 1)) / (1 - u["alpha"]) for u in USERS)


def test_the_answer() -> None:
    plan = answer(QUESTION)
    ids = {user["id"] for user in USERS}
    assert set(plan["draft_length"]) == set(plan["bandwidth_hz"]) == set(plan["upload_ms"]) == ids
    assert sum(plan["bandwidth_hz"].values()) == pytest.approx(1e6)
    ends = []
    for user in USERS:
        length = plan["draft_length"][user["id"]]
        took = 1e3 * length * user["bits_per_token"] / user["eta"] / plan["bandwidth_hz"][user["id"]]
        assert plan["upload_ms"][user["id"]] == pytest.approx(took)
        ends.append(length * user["draft_ms_per_token"] + took)
    assert plan["drafts_ms"] == pytest.approx(max(ends))
    drafted = sum(plan["draft_length"].values())
    assert plan["round_ms"] == pytest.approx(max(ends) + 30 + 0.5 * (drafted + 4) + 0.4)
    assert plan["goodput_tokens_per_s"] == pytest.approx(1e3 * expected_tokens(plan) / plan["round_ms"])
    assert plan["late"] == []
    assert set(plan["baselines"]) == {"equal_shares_one_length", "equal_shares", "one_length"}
    for baseline in plan["baselines"].values():
        assert set(baseline) == ROUND_KEYS
        assert baseline["goodput_tokens_per_s"] < plan["goodput_tokens_per_s"]
    lengths = plan["baselines"]["one_length"]["draft_length"]
    assert len(set(lengths.values())) == 1


def test_solvers_agree() -> None:
    auto, exact, ours = (answer(changed(solver=solver)) for solver in ("auto", "exact", "outrider"))
    assert (auto["solver"], exact["solver"], ours["solver"]) == ("outrider", "exact", "outrider")
    assert ours["goodput_tokens_per_s"] == pytest.approx(exact["goodput_tokens_per_s"], rel=5e-3)
    assert answer(changed(max_draft=2))["solver"] == "exact"


def test_message_bits_and_limits_are_kept() -> None:
    users = [
        {**USERS[0], "ceiling_hz": 1e5},
        {**USERS[1], "floor_hz": 6e5, "message_bits": 500.0},
        *USERS[2:],
    ]
    plan = answer(changed(users=users, min_draft=1))
    assert plan["bandwidth_hz"]["u0"] <= 1e5 * (1 + 1e-9)
    assert plan["bandwidth_hz"]["u1"] >= 6e5 * (1 - 1e-9)
    bits = 500 + 2000 * plan["draft_length"]["u1"]
    assert plan["upload_ms"]["u1"] == pytest.approx(1e3 * bits / 1.5 / plan["bandwidth_hz"]["u1"])


def test_snr_is_another_way_to_say_eta_and_users_may_be_in_no_cell() -> None:
    best = answer(QUESTION)["goodput_tokens_per_s"]
    snr = answer(with_user(eta=None, snr=2**0.5 - 1))["goodput_tokens_per_s"]
    assert snr == pytest.approx(best)
    plan = answer(with_user(cell=None, eta=None, bits_per_token=None))
    assert set(plan["bandwidth_hz"]) == {"u1", "u2", "u3"}
    assert plan["goodput_tokens_per_s"] > best


@pytest.mark.parametrize("solver", ["outrider", "exact"])
def test_who_cannot_be_in_time_is_named(solver: str) -> None:
    plan = answer({**with_user(deadline_ms_per_token=20.0), "solver": solver})
    assert plan["late"] == ["u0"]
    assert plan["draft_length"]["u0"] == 0
    counted = expected_tokens(plan) - 1
    assert plan["goodput_tokens_per_s"] == pytest.approx(1e3 * counted / plan["round_ms"])
    users = [{**user, "deadline_ms_per_token": 1.0} for user in USERS]
    nobody = answer(changed(users=users, solver=solver))
    assert nobody["goodput_tokens_per_s"] == 0
    assert nobody["late"] == ["u0", "u1", "u2", "u3"]
    assert nobody["draft_length"] == answer(changed(solver=solver))["draft_length"]


@pytest.mark.parametrize(
    ("query", "named"),
    [
        (changed(cells=[{"id": "c1", "bandwidth_hz": 0.0}]), ["cells.0.bandwidth_hz"]),
        (changed(cells=[*QUESTION["cells"], *QUESTION["cells"]]), ["cells", "'c1' twice"]),
        (changed(users=[*USERS, USERS[0]]), ["'u0' twice"]),
        (with_user(cell="c9"), ["'u0'", "'c9'", "c1"]),
        (with_user(cell=None), ["'u0'", "cell", "eta"]),
        (with_user(cell=None, eta=None), ["'u0'", "cell", "bits_per_token"]),
        (with_user(cell=None, eta=None, bits_per_token=None, message_bits=1.0), ["'u0'", "message_bits"]),
        (with_user(snr=3.0), ["'u0'", "eta, snr"]),
        (with_user(eta=math.nan), ["users.0.eta"]),
        (with_user(eta=1e-20), ["'u0'", "bits/eta", "1e+15"]),
        (with_user(bits_per_token=None), ["'u0'", "bits_per_token", "'c1'"]),
        (with_user(bits_per_token=-1.0), ["users.0.bits_per_token"]),
        (with_user(draft_ms_per_token=None), ["users.0.draft_ms_per_token"]),
        (with_user(floor_hz=2e6), ["'u0'", "floor_hz", "1e+06"]),
        (with_user(floor_hz=1e6), ["'u1'", "floor_hz", "1e+06"]),
        (with_user(output=5), ["users.0.output"]),
        (changed(min_draft=7), ["min_draft", "max_draft 6"]),
        (changed(solver="exact", max_draft=60), ["solver", "1,000,000", "max_draft"]),
        (changed(server={**SERVER, "memory_bytes": 1e6}), ["memory_bytes", "4 users", "1e+06"]),
        (changed(objective="goodputs"), ["objective", "'goodput'"]),
    ],
)
def test_errors_name_user_and_field(query: object, named: list[str]) -> None:
    done = outrider_plan(query)
    assert done.exit_code == 1
    assert done.stdout == ""
    assert all(part in done.stderr.replace("\n", " ") for part in named), done.stderr
    assert "Traceback" not in done.stderr
