"""Query and answer of `outrider plan` with objective `latency`, in JSON. Unknown fields are errors."""

from math import inf
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, model_validator

from shared.planning.bandwidth.shares import SharingName
from shared.planning.bandwidth.uploads import Cell, Uploads
from shared.planning.cost import Padded
from shared.planning.latency import baselines, brute_force, latency_solver
from shared.planning.latency.cohort import Cohort, SharedCell
from shared.planning.latency.latency_plan import LatencyPlan, completion_ms, plan_of
from shared.planning.latency.radio import Radio
from shared.planning.planning_query import checked
from shared.planning.problem import PackedServer, PaddedServer, User
from shared.planning.radio_query import BandQuery, RadioUserQuery, check_cells
from shared.planning.server_laws import Milliseconds, Positive, ServerLaw, Size, StrictModel
from shared.planning.solvers.solve import SolverName

AUTO_EXACT: Final = 6  # up to so many users `auto` is brute force
MAX_USERS: Final = 2000  # the tables of all intervals grow with the square


class CellQuery(BandQuery):
    """A radio cell. duplex: up and down have a band each; only uploads are planned, so it changes no plan."""

    sharing: SharingName = "joint"
    duplex: bool = False


class DrafterQuery(StrictModel):
    """The node that drafts for all: c1·b·F + c2 for each token. c1_ms: ms per operation, c2_ms: ms per pass."""

    c1_ms: Positive
    c2_ms: Milliseconds
    layers: Size
    hidden: Size
    ffn: Size

    @property
    def law(self) -> Padded:
        """The law of a pass of one token."""
        return Padded(self.c2_ms, self.c1_ms, self.layers, self.hidden, self.ffn)


class TaskQuery(RadioUserQuery):
    """One user: a prompt of `prefix` tokens, an answer of `output` tokens, and what it uploads through which cell."""

    output: Annotated[int, Field(ge=1, le=1_000_000)]
    draft_ms_per_token: Positive | None = None
    weight: Positive = 1.0
    bits: Annotated[float, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _uploads(self) -> Self:
        if self.cell is None and self.bits is not None:
            raise ValueError(f"user {self.id!r}: cell: missing, but bits is given; name the user's cell")
        if self.cell is not None and self.bits is None:
            raise ValueError(
                f"user {self.id!r}: bits: missing; how much it uploads through cell {self.cell!r}"
            )
        return self


class LatencyQuery(StrictModel):
    """Users with uploads, cells, a verifier, and a drafter or devices that draft."""

    objective: Literal["latency"]
    server: ServerLaw
    users: Annotated[tuple[TaskQuery, ...], Field(min_length=1, max_length=MAX_USERS, strict=False)]
    cells: Annotated[tuple[CellQuery, ...], Field(strict=False)] = ()
    drafter: DrafterQuery | None = None
    max_draft: Annotated[int, Field(ge=0, le=256)] = 20
    min_draft: Annotated[int, Field(ge=0)] = 1
    resident_bytes: Positive | None = None
    solver: SolverName = "auto"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.min_draft > self.max_draft:
            raise ValueError(f"min_draft: {self.min_draft} is above max_draft {self.max_draft}")
        check_cells(self.users, self.cells)
        for user in self.users:
            self._check(user)
        if self.solver == "exact" and len(self.users) > brute_force.MAX_USERS:
            raise ValueError(
                f"solver: exact takes at most {brute_force.MAX_USERS} users under objective latency, "
                f"these are {len(self.users)}; take outrider"
            )
        return self

    def _check(self, user: TaskQuery) -> None:
        if self.drafter is None and user.draft_ms_per_token is None:
            raise ValueError(
                f"user {user.id!r}: draft_ms_per_token: missing, and there is no drafter; give one of them"
            )
        if self.drafter is not None and user.draft_ms_per_token is not None:
            raise ValueError(
                f"user {user.id!r}: draft_ms_per_token: the drafter drafts for all users; leave one of them out"
            )

    def cohort(self) -> Cohort:
        """The cohort for the planner. Raises CellError."""
        users = tuple(
            User(
                user.id,
                user.alpha,
                user.prefix,
                user.draft_ms_per_token or 0.0,
                user.comm_ms,
                user.weight,
            )
            for user in self.users
        )
        server = self.server.server()
        assert isinstance(server, PaddedServer | PackedServer)  # noqa: S101  # the two laws there are
        return Cohort(
            users,
            tuple(user.output for user in self.users),
            server,
            None if self.drafter is None else self.drafter.law,
            tuple(cell for each in self.cells if (cell := self._shared(each)) is not None),
            self.min_draft,
            self.max_draft,
            inf if self.resident_bytes is None else self.resident_bytes,
        )

    def _shared(self, cell: CellQuery) -> SharedCell | None:
        """A cell with its users; None where it has none."""
        members = tuple(m for m, user in enumerate(self.users) if user.cell == cell.id)
        if not members:
            return None
        users = [self.users[m] for m in members]
        uploads = Uploads.of(
            Cell(cell.id, cell.bandwidth_hz),
            [user.id for user in users],
            [user.bits or 0.0 for user in users],
            [user.efficiency for user in users],
            weight=[user.weight for user in users],
            floor_hz=[user.floor_hz or 0.0 for user in users],
            ceiling_hz=[inf if user.ceiling_hz is None else user.ceiling_hz for user in users],
        )
        return SharedCell(uploads, members, cell.sharing)


def read_latency_query(data: Any) -> LatencyQuery:
    """A query from parsed JSON. Raises QueryError."""
    return checked(LatencyQuery, data)


def solve(cohort: Cohort, solver: SolverName = "auto") -> tuple[LatencyPlan, SolverName]:
    """The best plan that a solver finds, and the solver that found it. Raises Infeasible."""
    if solver == "auto":
        solver = "exact" if len(cohort.users) <= AUTO_EXACT else "outrider"
    if solver == "paper":
        return baselines.paper_batching(cohort), solver
    ours = latency_solver.best_candidate(cohort)
    if solver == "exact":
        ours = brute_force.best_candidate(cohort, ours.latency_ms)
    return plan_of(ours.costs, ours.batching, Radio(cohort)), solver


def latency_json(
    query: LatencyQuery, cohort: Cohort, plan: LatencyPlan, solver: SolverName, plan_ms: float
) -> dict[str, Any]:
    """The answer to a query, with both baselines. plan_ms: the time that planning took, without them."""
    ids = [user.id for user in query.users]
    done = completion_ms(cohort, plan).tolist()
    late = [
        user.id
        for user, end in zip(query.users, done, strict=True)
        if user.deadline_ms_per_token is not None and end > user.deadline_ms_per_token * user.output
    ]
    return {
        "latency_ms": plan.latency_ms,
        "batches": _batches(ids, plan),
        "draft_length": plan.draft_length,
        "rounds": plan.rounds,
        "period_ms": plan.period_ms,
        "bandwidth_hz": _by_id(query, plan.bandwidth_hz.tolist()),
        "upload_ms": _by_id(query, plan.upload_ms.tolist()),
        "done_ms": dict(zip(ids, done, strict=True)),
        "late": late,
        "baselines": {
            "uniform": _baseline(ids, baselines.uniform_bandwidth(cohort)),
            "paper": _baseline(ids, baselines.paper(cohort)),
        },
        "objective": query.objective,
        "solver": solver,
        "plan_ms": plan_ms,
    }


def _batches(ids: list[str], plan: LatencyPlan) -> list[list[str]]:
    return [[ids[m] for m in batch] for batch in plan.batches]


def _by_id(query: LatencyQuery, values: list[float]) -> dict[str, float]:
    """Values of the users who are in a cell."""
    return {user.id: value for user, value in zip(query.users, values, strict=True) if user.cell is not None}


def _baseline(ids: list[str], plan: LatencyPlan) -> dict[str, Any]:
    return {
        "latency_ms": plan.latency_ms,
        "draft_length": plan.draft_length,
        "rounds": plan.rounds,
        "batches": _batches(ids, plan),
    }
