"""How long the in-memory broker takes for a commit: with its rules in Python, and with commit.lua run by lupa.

    pip install --target /tmp/lupa lupa
    PYTHONPATH=.:/tmp/lupa .venv/bin/python scripts/lua_in_memory.py

A commit has 8 rows of 3 tokens, all told to a device. Lua has a server of dicts and lists without expiry, groups and
bounds, so its figure is a lower bound. docs/notes/broker.md has the results.
"""

import asyncio
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import msgpack
from lupa import lua51

from shared.broker.contract import CommitRow
from shared.broker.memory_scripts import MemoryScripts
from shared.broker.memory_server import MemoryServer
from shared.broker.script import script
from shared.protocol import wire
from shared.protocol.keys import Keys
from shared.protocol.messages import Submit, Verdict
from shared.protocol.session import SessionSpec
from shared.speculative.params import SamplingParams

ROWS: Final = 8
TOKENS: Final = (1, 2, 3)
COMMITS: Final = 1000
REPEATS: Final = 7
PROMPT: Final = (5, 6, 7, 8)
KEYS: Final = Keys()

Commit = Callable[[Sequence[CommitRow]], object]


def rows(number: int) -> list[CommitRow]:
    """The rows of commit `number`: each extends its session."""
    base_len = len(PROMPT) + len(TOKENS) * number
    return [
        CommitRow(
            Verdict(f"s{i}", 0, number, base_len, TOKENS, base_len + len(TOKENS), next_k=3),
            f"device-{i}:1",
            "gateway:1",
        )
        for i in range(ROWS)
    ]


def measure(commit: Commit) -> float:
    """Microseconds per commit, encoding of the verdicts included."""
    begun = time.perf_counter()
    for number in range(COMMITS):
        commit(rows(number))
    return 1e6 * (time.perf_counter() - begun) / COMMITS


def python_rules() -> Commit:
    """The in-memory broker as it is."""
    scripts = MemoryScripts(MemoryServer(), KEYS, limit=10**9, copies=lambda stream, data: 1)
    for i in range(ROWS):
        spec = SessionSpec(f"s{i}", PROMPT, SamplingParams(1, 100), 10**5, (), "gateway:1", 10**6)
        message = Submit(spec.session, len(PROMPT), spec.max_tokens, spec.deadline_ms, spec.gateway)
        scripts.submit(spec, wire.encode_spec(spec), wire.encode(message))
    return lambda batch: scripts.commit("v", "", [(row, wire.encode(row.verdict)) for row in batch])


def lua_rules() -> Commit:
    """commit.lua, with the commands that such a commit calls."""
    lua = lua51.LuaRuntime(encoding=None, unpack_returned_tuples=True)
    data: dict[bytes, Any] = {
        KEYS.session(f"s{i}").encode(): {b"epoch": b"0", b"prompt_len": b"4", b"finish": b""}
        for i in range(ROWS)
    }
    names = lua.globals()
    names[b"redis"] = lua.table_from({b"call": partial(call, lua, data)})
    names[b"cmsgpack"] = lua.table_from(
        {
            b"unpack": lambda packed: to_lua(lua, msgpack.unpackb(packed, raw=True)),
            b"pack": lambda value: msgpack.packb(to_python(value)),
        }
    )
    run = lua.eval(b"function(KEYS, ARGV) " + script("commit").text.split("\n", 1)[1].encode() + b" end")

    def commit(batch: Sequence[CommitRow]) -> None:
        keys = [KEYS.verdicts, KEYS.staged("v"), KEYS.live]
        for row in batch:
            name = row.verdict.session
            keys += [KEYS.session(name), KEYS.session_ids(name), KEYS.session_logprobs(name)]
            keys += [KEYS.inbox(row.device), KEYS.reply(row.gateway)]
        packed = [b"", *(wire.encode(row.verdict) for row in batch)]
        outcomes = run(lua.table_from([key.encode() for key in keys]), lua.table_from(packed))
        if outcomes[1] != b"committed":
            raise RuntimeError(f"the first row was {outcomes[1]!r}")

    return commit


def call(lua: Any, data: dict[bytes, Any], command: bytes, *arguments: Any) -> Any:
    """redis.call on hashes, lists and streams in a dict."""
    key = arguments[0] if arguments else b""
    match command:
        case b"HMGET":
            return lua.table_from([data[key].get(name, False) for name in arguments[1:]])
        case b"LLEN":
            return len(data.get(key, ()))
        case b"RPUSH":
            data.setdefault(key, []).extend(arguments[1:])
            return len(data[key])
        case b"XADD":
            data.setdefault(key, []).append(arguments[-1])
        case b"TIME":
            return lua.table_from([b"1", b"2"])
    return 1


def to_lua(lua: Any, value: Any) -> Any:
    """Lists as tables."""
    return lua.table_from([to_lua(lua, one) for one in value]) if isinstance(value, list) else value


def to_python(value: Any) -> Any:
    """Tables as lists, and whole numbers as integers."""
    if lua51.lua_type(value) == "table":
        return [to_python(one) for one in value.values()]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def main() -> None:
    """Measure both by turns and print medians."""
    figures: dict[str, list[float]] = {"Python": [], "Lua in lupa": []}
    for _ in range(REPEATS):
        for name, make in (("Python", python_rules), ("Lua in lupa", lua_rules)):
            figures[name].append(asyncio.run(timed(make)))
    for name, found in figures.items():
        print(f"{name}: {statistics.median(found):.0f} us a commit ({min(found):.0f} to {max(found):.0f})")


async def timed(make: Callable[[], Commit]) -> float:
    """Build and measure inside a loop, whose clock the in-memory server reads."""
    return measure(make())


if __name__ == "__main__":
    main()
