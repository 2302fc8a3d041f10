"""`outrider plan` with objective `latency`: question and answer, and errors that name field and user."""

import math
from typing import Any

import pytest

from tests.cli.plan.queries import answer, outrider_plan

SERVER = {
    "law": "padded",
    "layers": 32,
    "hidden": 4096,
    "ffn": 11008,
    "c": 2e-10,
    "beta_ms": 30.0,
    "memory_bytes": 8.0e10,
}
DRAFTER = {"c1_ms": 2e-9, "c2_ms": 3.0, "layers": 12, "hidden": 768, "ffn": 3072}
USERS: list[dict[str, Any]] = [
    {
        "id": f"u{k}",
        "alpha": 0.7 + 0.02 * k,
        "prefix": 32 * (k + 1),
        "output": 40 + 10 * k,
        "cell": "c1",
        "eta": 0.5 + k,
        "bits": 2e5,
    }
    for k in range(5)
]
QUESTION: dict[str, Any] = {
    "objective": "latency",
    "server": SERVER,
    "drafter": DRAFTER,
    "max_draft": 6,
    "cells": [{"id": "c1", "bandwidth_hz": 1e6, "sharing": "joint"}],
    "users": USERS,
}


def changed(**fields: object) -> dict[str, Any]:
    return {**QUESTION, **fields}


def with_user(**fields: object) -> dict[str, Any]:
    """The first user with other fields; None takes a field away."""
    user = {key: value for key, value in {**USERS[0], **fields}.items() if value is not None}
    return changed(users=[user, *USERS[1:]])


def with_cell(**fields: object) -> dict[str, Any]:
    return changed(cells=[{**QUESTION["cells"][0], **fields}])


def test_the_answer() -> None:
    plan = answer(QUESTION)
    ids = {user["id"] for user in USERS}
    assert {user for batch in plan["batches"] for user in batch} == ids
    assert set(plan["bandwidth_hz"]) == set(plan["upload_ms"]) == set(plan["done_ms"]) == ids
    assert sum(plan["bandwidth_hz"].values()) == pytest.approx(1e6)
    for user in USERS:
        took = 1e3 * user["bits"] / user["eta"] / plan["bandwidth_hz"][user["id"]]
        assert plan["upload_ms"][user["id"]] == pytest.approx(took)
    assert 1 <= plan["draft_length"] <= 6
    assert plan["solver"] == "exact"
    assert plan["latency_ms"] <= plan["baselines"]["paper"]["latency_ms"] * (1 + 1e-9)
    assert plan["latency_ms"] < 0.9 * plan["baselines"]["uniform"]["latency_ms"]
    assert max(plan["done_ms"].values()) <= plan["latency_ms"] * (1 + 1e-9)
    assert plan["late"] == []


@pytest.mark.parametrize("solver", ["outrider", "exact", "paper"])
def test_every_solver_answers(solver: str) -> None:
    best, plan = answer(QUESTION), answer(changed(solver=solver))
    assert plan["solver"] == solver
    assert best["latency_ms"] <= plan["latency_ms"] * (1 + 1e-9)


@pytest.mark.parametrize("sharing", ["minmax", "uniform", "weighted"])
def test_every_sharing(sharing: str) -> None:
    plan = answer(with_cell(sharing=sharing))
    assert plan["latency_ms"] >= answer(QUESTION)["latency_ms"] * (1 - 1e-9)
    if sharing == "uniform":
        assert plan["bandwidth_hz"] == pytest.approx(dict.fromkeys(plan["bandwidth_hz"], 2e5))
        assert plan["latency_ms"] == pytest.approx(plan["baselines"]["uniform"]["latency_ms"], rel=1e-3)
    if sharing == "minmax":
        assert len({round(ms, 6) for ms in plan["upload_ms"].values()}) == 1


def test_snr_is_another_way_to_say_eta() -> None:
    assert answer(with_user(eta=None, snr=2**0.5 - 1))["latency_ms"] == pytest.approx(
        answer(QUESTION)["latency_ms"]
    )


def test_devices_draft_where_there_is_no_drafter() -> None:
    users = [{**user, "draft_ms_per_token": 10.0 + k} for k, user in enumerate(USERS)]
    without = {key: value for key, value in QUESTION.items() if key != "drafter"}
    plan = answer({**without, "users": users})
    assert plan["period_ms"] >= plan["draft_length"] * 14


def test_cells_are_bands_of_their_own_and_users_may_be_in_none() -> None:
    cells = [{"id": "c1", "bandwidth_hz": 1e6}, {"id": "c2", "bandwidth_hz": 3e6, "duplex": True}]
    free = {key: USERS[0][key] for key in ("id", "alpha", "prefix", "output")}
    plan = answer(
        changed(cells=cells, users=[free, USERS[1], *({**user, "cell": "c2"} for user in USERS[2:])])
    )
    assert "u0" not in plan["bandwidth_hz"]
    assert plan["bandwidth_hz"]["u1"] == pytest.approx(1e6)
    assert sum(plan["bandwidth_hz"][f"u{k}"] for k in (2, 3, 4)) == pytest.approx(3e6)


def test_floors_and_ceilings_are_kept() -> None:
    users = [{**USERS[0], "ceiling_hz": 1e5}, {**USERS[1], "floor_hz": 6e5}, *USERS[2:]]
    plan = answer(changed(users=users))
    assert plan["bandwidth_hz"]["u0"] == pytest.approx(1e5)
    assert plan["bandwidth_hz"]["u1"] >= 6e5 * (1 - 1e-9)


def test_who_misses_a_deadline_is_named() -> None:
    done = answer(QUESTION)["done_ms"]["u0"] / USERS[0]["output"]
    assert answer(with_user(deadline_ms_per_token=done * 0.99))["late"] == ["u0"]
    assert answer(with_user(deadline_ms_per_token=done * 1.01))["late"] == []


@pytest.mark.parametrize(
    ("query", "named"),
    [
        (with_cell(bandwidth_hz=0.0), ["cells.0.bandwidth_hz"]),
        (changed(cells=[{"id": "c1"}]), ["cells.0.bandwidth_hz"]),
        (with_cell(bandwidth_hz=math.nan), ["cells.0.bandwidth_hz"]),
        (with_cell(sharing="fair"), ["cells.0.sharing", "minmax"]),
        (changed(cells=QUESTION["cells"] * 2), ["cells", "'c1' twice"]),
        (changed(cells=[]), ["'u0'", "cell", "'c1'"]),
        (with_user(eta=-1.0), ["users.0.eta"]),
        (with_user(eta=math.nan), ["users.0.eta"]),
        (with_user(eta=None), ["'u0'", "eta, snr"]),
        (with_user(snr=3.0), ["'u0'", "eta, snr"]),
        (with_user(snr=0.0, eta=None), ["users.0.snr"]),
        (with_user(bits=None), ["'u0'", "bits"]),
        (with_user(bits=-1.0), ["users.0.bits"]),
        (with_user(cell="c9"), ["'u0'", "'c9'", "c1"]),
        (with_user(cell=["c1", "c2"]), ["users.0.cell"]),
        (with_user(cell=None), ["'u0'", "cell", "eta"]),
        (with_user(output=0), ["users.0.output"]),
        (with_user(output=None), ["users.0.output"]),
        (with_user(floor_hz=2e6), ["'u0'", "floor_hz", "1e+06"]),
        (with_user(floor_hz=3e5, ceiling_hz=2e5), ["'u0'", "floor_hz", "ceiling_hz"]),
        (with_user(draft_ms_per_token=5.0), ["'u0'", "draft_ms_per_token", "drafter"]),
        (changed(drafter=None), ["'u0'", "draft_ms_per_token"]),
        (changed(drafter={**DRAFTER, "c1_ms": 0}), ["drafter.c1_ms"]),
        (changed(users=[*USERS, {**USERS[0], "cell": "c2"}]), ["'u0' twice", "'c1' and 'c2'"]),
        (changed(min_draft=7), ["min_draft"]),
        (changed(min_batches=2), ["min_batches"]),
        (changed(server={**SERVER, "memory_bytes": 1.0}), ["memory_bytes", "'u4'"]),
        (changed(resident_bytes=1.0), ["resident_bytes"]),
        (
            changed(solver="exact", users=[{**USERS[0], "id": f"v{k}"} for k in range(9)]),
            ["solver", "at most 8"],
        ),
        (changed(objective="latencies"), ["objective", "'latency'"]),
    ],
)
def test_errors_name_user_and_field(query: object, named: list[str]) -> None:
    done = outrider_plan(query)
    assert done.exit_code == 1
    assert done.stdout == ""
    assert all(part in done.stderr.replace("\n", " ") for part in named), done.stderr
    assert "Traceback" not in done.stderr
