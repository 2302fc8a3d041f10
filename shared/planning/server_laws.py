"""Cost laws of a server as JSON has them, checked field by field: in planning queries and in profiles."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from shared.planning.cost import Packed, Padded
from shared.planning.problem import PackedServer, PaddedServer, Server

Positive = Annotated[float, Field(gt=0)]
Milliseconds = Annotated[float, Field(ge=0)]
Size = Annotated[int, Field(ge=1)]


class StrictModel(BaseModel):
    """A model that refuses unknown fields, other types and infinities."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)


class PaddedLaw(StrictModel):
    """The paper's server: rows are padded to the longest. c: ms per operation."""

    law: Literal["padded"]
    layers: Size
    hidden: Size
    ffn: Size
    c: Positive
    beta_ms: Milliseconds
    memory_bytes: Positive

    @property
    def pass_law(self) -> Padded:
        """The law of a pass."""
        return Padded(self.beta_ms, self.c, self.layers, self.hidden, self.ffn)

    def server(self) -> Server:
        """The server for the planner."""
        return PaddedServer(self.pass_law, self.memory_bytes)


class PackedLaw(StrictModel):
    """Outrider's verifier: each row costs its own tokens."""

    law: Literal["packed"]
    beta_ms: Milliseconds
    per_token_ms: Milliseconds
    per_context_ms: Milliseconds
    memory_bytes: Positive
    kv_bytes_per_token: Milliseconds

    @property
    def pass_law(self) -> Packed:
        """The law of a pass."""
        return Packed(self.beta_ms, self.per_token_ms, self.per_context_ms)

    def server(self) -> Server:
        """The server for the planner."""
        return PackedServer(self.pass_law, self.memory_bytes, self.kv_bytes_per_token)


ServerLaw = Annotated[PaddedLaw | PackedLaw, Field(discriminator="law")]
