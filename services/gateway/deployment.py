"""The core's deployment record, read from the broker and checked against this gateway's tokenizer."""

from collections.abc import Mapping
from dataclasses import dataclass

from shared.broker.contract import Records
from shared.protocol.keys import Keys
from shared.protocol.limits import PROTOCOL_VERSION


class BadDeployment(ValueError):
    """This gateway cannot serve the core's deployment; the text says why."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """The core's record. context: maximum prompt and completion tokens of a session."""

    target: str
    vocabulary: str
    vocab: int
    context: int


def read_deployment(fields: Mapping[str, str]) -> Deployment:
    """Raises BadDeployment."""
    try:
        protocol = int(fields["protocol"])
        deployment = Deployment(
            fields["target"],
            fields["vocabulary"],
            int(fields["vocab"]),
            min(int(fields["max_context"]), int(fields["pool_tokens"])),
        )
    except (KeyError, ValueError) as error:
        raise BadDeployment(f"the core's record is incomplete: {error}") from None
    if protocol != PROTOCOL_VERSION:
        raise BadDeployment(f"the core speaks protocol version {protocol}; this gateway {PROTOCOL_VERSION}")
    return deployment


class DeploymentView:
    """The record as last read; `current` is None, and `not_ready_reason` says why, until there is a fitting one."""

    def __init__(self, records: Records, keys: Keys, vocabulary: str) -> None:
        self.clear()
        self._records = records
        self._keys = keys
        self._vocabulary = vocabulary

    def clear(self) -> None:
        """Nothing is known (the broker lost its data)."""
        self.current: Deployment | None = None
        self.not_ready_reason: str | None = "no core has announced a model yet"

    async def refresh(self) -> None:
        """Read it again. May raise BrokerAway; the record at hand stays then."""
        fields = await self._records.get(self._keys.deployment)
        self.clear()
        if not fields:
            return
        try:
            deployment = read_deployment(fields)
        except BadDeployment as error:
            self.not_ready_reason = str(error)
            return
        if deployment.vocabulary != self._vocabulary:
            self.not_ready_reason = (
                f"the core's vocabulary ({deployment.vocabulary}) is not that of this gateway's tokenizer "
                f"({self._vocabulary}); OUTRIDER_MODEL_DIR must be the target's folder"
            )
            return
        self.current, self.not_ready_reason = deployment, None
