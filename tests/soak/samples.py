"""Samples of a running stack: memory of all processes, and keys at the broker."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli.stack.stack import LocalStack
from loadgen.fleet import resident_mib


@dataclass(slots=True)
class Sample:
    """One sample. at_s: seconds from the start. memory_mib: resident, by process. longest: entries, by kind of key."""

    at_s: float
    memory_mib: dict[str, float]
    keys: int
    broker_mib: float
    connections: int
    longest: dict[str, int]


async def take_sample(stack: LocalStack, redis: Any, at_s: float) -> Sample:
    """Sample the memory of all processes and all keys at the broker."""
    memory = {name: resident_mib(process.pid) for name, process in stack.processes.items() if process.pid}
    longest: dict[str, int] = {}
    count = 0
    async for key in redis.scan_iter(count=1000):
        count += 1
        kind = kind_of(key)
        longest[kind] = max(longest.get(kind, 0), await length(redis, key))
    used = (await redis.info("memory"))["used_memory"]
    connections = (await redis.info("clients"))["connected_clients"]
    return Sample(at_s, memory, count, used / 2**20, connections, longest)


def kind_of(key: str) -> str:
    """A key's name with placeholders for names and ids."""
    rest = key.split(":", 2)[2]
    return re.sub(
        r"^(session:)[^:]+",
        r"\1ID",
        re.sub(r"^(staged|inbox|reply|alive:\w+|generation):.*", r"\1:NAME", rest),
    )


async def length(redis: Any, key: str) -> int:
    """Number of a key's entries; 1 for a string, 0 for a deleted key."""
    kind = await redis.type(key)
    counts = {
        "stream": redis.xlen,
        "list": redis.llen,
        "hash": redis.hlen,
        "set": redis.scard,
        "zset": redis.zcard,
    }
    return int(await counts[kind](key)) if kind in counts else int(kind != "none")


def median(values: Sequence[float]) -> float:
    """The upper median."""
    return sorted(values)[len(values) // 2]


def plot(samples: Sequence[Sample], title: str, path: Path) -> None:
    """Plot the memory of all processes and the broker's keys over time."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (above, below) = pyplot.subplots(2, 1, figsize=(9, 7), sharex=True)
    minutes = [sample.at_s / 60 for sample in samples]
    for name in samples[0].memory_mib if samples else ():
        above.plot(minutes, [sample.memory_mib.get(name, 0.0) for sample in samples], label=name)
    above.set(yscale="log", ylabel="resident MiB", title=title)
    above.legend(loc="center right", fontsize=8)
    below.plot(minutes, [sample.keys for sample in samples], label="keys at the broker")
    below.plot(minutes, [10 * sample.broker_mib for sample in samples], label="memory of the broker, 0.1 MiB")
    below.set(xlabel="minutes", ylim=(0, None))
    below.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
