"""`outrider status`: live tables of devices and verifiers, with the policy and the number of sessions."""

import asyncio
from pathlib import Path
from typing import Any, Final

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cli.admin import Admin
from shared.runtime.stack_state import read_state

REFRESH_S: Final = 1.0


async def run_status(url: str, api_key: str, *, once: bool, state_dir: Path | None = None) -> None:
    """Refresh until Ctrl-C, or print once if `once` is set or the output is not a terminal. Raises CommandError.

    state_dir: state folder of a stack on this machine, whose given-up devices are listed; None = no such stack.
    """
    console = Console()
    async with Admin(url, api_key) as admin:
        before = await admin.status()
        if once or not console.is_terminal:
            console.print(Group(picture(before, before), given_up(state_dir)))
            return
        with Live(picture(before, before), console=console, auto_refresh=False) as live:
            while True:
                await asyncio.sleep(REFRESH_S)
                now = await admin.status()
                live.update(Group(picture(now, before), given_up(state_dir)), refresh=True)
                before = now


def given_up(state_dir: Path | None) -> Text:
    """A line for each device that the local stack has given up, with the reason."""
    state = read_state(state_dir) if state_dir else None
    lines = sorted(state.given_up.values()) if state else []
    return Text("\n".join(f"given up: {line}" for line in lines), style="red")


def picture(now: dict[str, Any], before: dict[str, Any]) -> Group:
    """The whole screen, from two responses of /admin/status taken REFRESH_S apart."""
    policy = now["policy"]
    totals = {name: now["totals"][name] - before["totals"].get(name, 0) for name in now["totals"]}
    headline = Text(
        f"policy {policy['policy']} k={policy['k']}   sessions {now['sessions']}   "
        f"{totals.get('tokens', 0) / REFRESH_S:.0f} tok/s"
    )
    return Group(
        headline,
        verifiers(now["verifiers"], before["verifiers"]),
        devices(now["devices"], now.get("shares", {})),
    )


def verifiers(rows: list[dict[str, Any]], before: list[dict[str, Any]]) -> Table:
    """Table with one row per verifier."""
    table = Table(title="verifiers", title_justify="left")
    for heading in ("name", "generation", "busy", "KV tokens used", "detail"):
        table.add_column(heading)
    earlier = {(row["name"], row["generation"]): row for row in before}
    for row in rows:
        busy = busy_share(row, earlier.get((row["name"], row["generation"]), row))
        table.add_row(
            row["name"], str(row["generation"]), busy, f"{row['load']} of {row['capacity']}", row["detail"]
        )
    return table


def busy_share(row: dict[str, Any], before: dict[str, Any]) -> str:
    """Share of the time between two heartbeats of one process in which it computed, as a percentage."""
    passed_us = row["stamp_us"] - before["stamp_us"]
    return f"{(row['busy_us'] - before['busy_us']) / passed_us:.0%}" if passed_us > 0 else "–"


def devices(rows: list[dict[str, Any]], shares: dict[str, dict[str, int]]) -> Table:
    """Table with one row per device. shares: of radio cells, by device; they have a column if there are some."""
    table = Table(title="devices", title_justify="left")
    shared = any(row["name"] in shares and row.get("cell") for row in rows)
    cell = ("cell", "share kbit/s", "exceeded") if shared else ()
    for heading in ("name", "generation", "sessions", "draft ms/token", "link ms", *cell, "detail"):
        table.add_column(heading)
    for row in rows:
        table.add_row(
            row["name"],
            str(row["generation"]),
            f"{row['load']} of {row['capacity']}",
            f"{row['draft_us_per_token'] / 1e3:.1f}",
            f"{row['rtt_us'] / 1e3:.1f}",
            *(_share_cells(row, shares) if shared else ()),
            row["detail"],
        )
    return table


def _share_cells(row: dict[str, Any], shares: dict[str, dict[str, int]]) -> tuple[str, str, str]:
    """A device's radio cell, its share of it, and for how many spells of 5 s it sent more than 1.2 times that."""
    share = shares.get(row["name"])
    if not row["cell"] or share is None:
        return row["cell"] or "–", "–", "–"
    return row["cell"], f"{share['bits_s'] / 1e3:.1f}", str(share["exceeded"])
