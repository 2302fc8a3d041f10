"""Query and answer of `outrider plan` with objective `goodput`, in JSON. Unknown fields are errors."""

from math import inf
from typing import Annotated, Any, Final, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from shared.planning.bandwidth.uploads import Cell, Uploads
from shared.planning.goodput import baselines, brute_force, goodput_solver
from shared.planning.goodput.drafting_cells import DraftCell, DraftingCells
from shared.planning.goodput.goodput_plan import GoodputPlan, plan_of
from shared.planning.goodput.uplink import BestShares
from shared.planning.planning_query import checked
from shared.planning.problem import User
from shared.planning.radio_query import BandQuery, RadioUserQuery, check_cells
from shared.planning.server_laws import Positive, ServerLaw, StrictModel

AUTO_EXACT: Final = 2_000  # up to so many choices of lengths `auto` is brute force
MAX_USERS: Final = 1000
SolverName = Literal["auto", "outrider", "exact"]
Bits = Annotated[float, Field(ge=0, le=1e12)]


class DeviceQuery(RadioUserQuery):
    """One user whose device drafts, and what its drafts take. message_bits: of a draft beside its tokens."""

    draft_ms_per_token: Positive
    bits_per_token: Bits | None = None
    message_bits: Bits = 0.0

    @model_validator(mode="after")
    def _uploads(self) -> Self:
        if self.cell is None and (self.bits_per_token is not None or self.message_bits):
            field = "message_bits" if self.bits_per_token is None else "bits_per_token"
            raise ValueError(f"user {self.id!r}: cell: missing, but {field} is given; name the user's cell")
        if self.cell is not None and self.bits_per_token is None:
            raise ValueError(
                f"user {self.id!r}: bits_per_token: missing; what a drafted token takes in cell {self.cell!r}"
            )
        return self


class GoodputQuery(StrictModel):
    """Users whose devices draft, cells, a verifier."""

    objective: Literal["goodput"]
    server: ServerLaw
    users: Annotated[tuple[DeviceQuery, ...], Field(min_length=1, max_length=MAX_USERS, strict=False)]
    cells: Annotated[tuple[BandQuery, ...], Field(strict=False)] = ()
    max_draft: Annotated[int, Field(ge=0, le=64)] = 20
    min_draft: Annotated[int, Field(ge=0)] = 0
    solver: SolverName = "auto"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.min_draft > self.max_draft:
            raise ValueError(f"min_draft: {self.min_draft} is above max_draft {self.max_draft}")
        check_cells(self.users, self.cells)
        choices = (self.max_draft - self.min_draft + 1) ** len(self.users)
        if self.solver == "exact" and choices > brute_force.MAX_CHOICES:
            raise ValueError(
                f"solver: exact tries at most {brute_force.MAX_CHOICES:,} choices of draft lengths, {len(self.users)} "
                f"users with drafts of {self.min_draft} to {self.max_draft} have more; lower max_draft or take outrider"
            )
        return self

    def drafting_cells(self) -> DraftingCells:
        """What is planned. Raises CellError and Infeasible."""
        users = tuple(
            User(user.id, user.alpha, user.prefix, user.draft_ms_per_token, user.comm_ms)
            for user in self.users
        )
        deadlines = [inf if (each := user.deadline_ms_per_token) is None else each for user in self.users]
        return DraftingCells(
            users,
            self.server.server(),
            tuple(cell for each in self.cells if (cell := self._cell(each)) is not None),
            np.array([user.bits_per_token or 0.0 for user in self.users]),
            np.array([user.message_bits for user in self.users]),
            np.array(deadlines),
            self.min_draft,
            self.max_draft,
        )

    def _cell(self, cell: BandQuery) -> DraftCell | None:
        """A cell with its users and their longest drafts; None where it has no users."""
        members = tuple(m for m, user in enumerate(self.users) if user.cell == cell.id)
        if not members:
            return None
        users = [self.users[m] for m in members]
        uploads = Uploads.of(
            Cell(cell.id, cell.bandwidth_hz),
            [user.id for user in users],
            [(user.bits_per_token or 0.0) * self.max_draft + user.message_bits for user in users],
            [user.efficiency for user in users],
            floor_hz=[user.floor_hz or 0.0 for user in users],
            ceiling_hz=[inf if user.ceiling_hz is None else user.ceiling_hz for user in users],
        )
        return DraftCell(uploads, members)


def read_goodput_query(data: Any) -> GoodputQuery:
    """A query from parsed JSON. Raises QueryError."""
    return checked(GoodputQuery, data)


def solve(cells: DraftingCells, solver: SolverName = "auto") -> tuple[GoodputPlan, SolverName]:
    """The best plan that a solver finds, and the solver that found it."""
    if solver == "auto":
        solver = "exact" if brute_force.choices(cells) <= AUTO_EXACT else "outrider"
    if solver == "outrider":
        return goodput_solver.solve(cells), solver
    uplink = BestShares(cells)
    return plan_of(cells, uplink, brute_force.best_lengths(cells, uplink)), solver


def goodput_json(
    query: GoodputQuery, cells: DraftingCells, plan: GoodputPlan, solver: SolverName, plan_ms: float
) -> dict[str, Any]:
    """The answer to a query, with the baselines. plan_ms: the time that planning took, without them."""
    ids = [user.id for user in query.users]
    return {
        "goodput_tokens_per_s": plan.goodput,
        "round_ms": plan.round_ms,
        "drafts_ms": plan.drafts_ms,
        "draft_length": dict(zip(ids, plan.lengths, strict=True)),
        "bandwidth_hz": _by_id(query, plan.bandwidth_hz.tolist()),
        "upload_ms": _by_id(query, plan.upload_ms.tolist()),
        "late": [ids[m] for m in plan.late],
        "baselines": {
            "equal_shares_one_length": _baseline(ids, baselines.equal_fixed(cells)),
            "equal_shares": _baseline(ids, baselines.equal_own(cells)),
            "one_length": _baseline(ids, baselines.best_fixed(cells)),
        },
        "objective": query.objective,
        "solver": solver,
        "plan_ms": plan_ms,
    }


def _by_id(query: GoodputQuery, values: list[float]) -> dict[str, float]:
    """Values of the users who are in a cell."""
    return {user.id: value for user, value in zip(query.users, values, strict=True) if user.cell is not None}


def _baseline(ids: list[str], plan: GoodputPlan) -> dict[str, Any]:
    return {
        "goodput_tokens_per_s": plan.goodput,
        "round_ms": plan.round_ms,
        "draft_length": dict(zip(ids, plan.lengths, strict=True)),
        "late": [ids[m] for m in plan.late],
    }
