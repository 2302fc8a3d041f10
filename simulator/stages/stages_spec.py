"""What a scenario says of a target that is split over stages: `core.stages`."""

from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from shared.planning.pieces import StageLaw
from shared.planning.server_laws import PackedLaw

MEMORY_BYTES: Final = 8e9  # for planners, as `core.server` has them unless it says otherwise
KV_BYTES: Final = 12288.0


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, int | float) else value


Milliseconds = Annotated[float, Field(ge=0, le=1e6)]
EachMilliseconds = Annotated[
    tuple[Milliseconds, ...], BeforeValidator(_as_list), Field(min_length=1, max_length=64)
]


class TreesSpec(_Strict):
    """The core's own drafter of trees. draft_ms: one level; each further node of it takes node_share of that.

    p1: probability that a node's first candidate is the target's token. It differs from prefix to prefix, as in
    `outrider bench pipeline`; this is its mean.
    """

    draft_ms: Milliseconds = 10.0
    node_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    p1: Annotated[float, Field(gt=0.3, lt=1)] = 0.75


class StagesSpec(_Strict):
    """Stages of a target. beta_ms, per_token_ms: of a pass of one stage; a number for all, or a list.

    hop_ms: a message from rank to rank; row_ms: on such a message, each row. head_ms, head_row_ms: rank 0's part of a
    pass. split: False = all layers in one process, one after the other: no hops, one pass at a time. trees: the core's
    drafter, for window controllers that ask for it; None = none.
    """

    count: Annotated[int, Field(ge=1, le=64)]
    beta_ms: EachMilliseconds
    per_token_ms: EachMilliseconds
    hop_ms: Milliseconds = 0.3
    row_ms: Milliseconds = 0.0
    head_ms: Milliseconds = 0.0
    head_row_ms: Milliseconds = 0.0
    split: bool = True
    trees: TreesSpec | None = None

    @model_validator(mode="after")
    def _check_lists(self) -> Self:
        for name in ("beta_ms", "per_token_ms"):
            if len(getattr(self, name)) not in (1, self.count):
                raise ValueError(f"{name}: give one number, or one for each of {self.count} stages")
        if not all(law.pass_ms(1) > 0 for law in self.laws):
            raise ValueError("beta_ms, per_token_ms: a pass of every stage has to take some time")
        return self

    @property
    def laws(self) -> tuple[StageLaw, ...]:
        """Of the stages, in their order."""
        beta, token = (
            values * self.count if len(values) == 1 else values
            for values in (self.beta_ms, self.per_token_ms)
        )
        return tuple(StageLaw(*law) for law in zip(beta, token, strict=True))

    @property
    def whole(self) -> PackedLaw:
        """Of a pass through all stages, alone: in one process, or with the hops of a pipeline."""
        beta_ms = sum(law.beta_ms for law in self.laws) + self.head_ms
        token_ms = sum(law.per_token_ms for law in self.laws) + self.head_row_ms
        hops_ms, rows_ms = (self.count + 1) * self.hop_ms, self.count * self.row_ms
        return PackedLaw(
            law="packed",
            beta_ms=beta_ms + hops_ms * self.split,
            per_token_ms=token_ms + rows_ms * self.split,
            per_context_ms=0.0,
            memory_bytes=MEMORY_BYTES,
            kv_bytes_per_token=KV_BYTES,
        )

    @property
    def head(self) -> StageLaw:
        """Of rank 0."""
        return StageLaw(self.head_ms, self.head_row_ms)
