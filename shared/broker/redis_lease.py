"""The scheduler's lease on Redis or Valkey. contract.py describes every method."""

from collections.abc import Sequence

from shared.broker.connections import Connections
from shared.broker.contract import BrokerFull, LeaseLost
from shared.broker.replies import milliseconds
from shared.protocol import wire
from shared.protocol.keys import Keys
from shared.protocol.messages import StagedBatch


class RedisLease:
    """The lease, and the staging that it fences."""

    def __init__(self, connections: Connections, keys: Keys, limit: int) -> None:
        """limit: entries of a work stream."""
        self._redis, self._keys, self._limit = connections, keys, limit

    async def acquire(self, holder: str, ttl_s: float) -> int:
        return int(
            await self._redis.run("acquire", [self._keys.lease, self._keys.term], holder, milliseconds(ttl_s))
        )

    async def renew(self, holder: str, term: int, ttl_s: float) -> bool:
        return bool(await self._redis.run("renew", [self._keys.lease], holder, term, milliseconds(ttl_s)))

    async def release(self, holder: str, term: int) -> None:
        await self._redis.run("release", [self._keys.lease], holder, term)

    async def stage(self, verifier: str, batch: StagedBatch, drafts: Sequence[str], holder: str) -> None:
        keys = [self._keys.lease, self._keys.staged(verifier), self._keys.draft]
        done = await self._redis.run("stage", keys, holder, self._limit, wire.encode(batch), *drafts)
        if done < 0:
            raise LeaseLost(f"{holder} is not the active scheduler")
        if not done:
            raise BrokerFull(f"{self._keys.staged(verifier)} holds {self._limit} entries")
