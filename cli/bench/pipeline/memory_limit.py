"""A limit on a process's memory: a control group's where this user may make one, else RLIMIT_DATA.

    python -m cli.bench.pipeline.memory_limit BYTES GROUP COMMAND …

runs a command under it (GROUP: a control group's folder, "" = none).
"""

import os
import resource
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path("/sys/fs/cgroup")
LIMITS: Final = ("memory.max", "memory.limit_in_bytes")  # of control groups v2 and v1
RESERVED: Final = 256 << 20  # RLIMIT_DATA also counts stacks and arenas that are reserved, not used


@dataclass(frozen=True, slots=True)
class MemoryLimit:
    """How memory can be limited here. group: folder of a control group below which others can be made."""

    group: Path | None

    @property
    def kind(self) -> str:
        """For people."""
        return "a control group" if self.group else "RLIMIT_DATA, 256 MiB more for what is only reserved"

    def argv(self, name: str, limit: int, command: Sequence[str]) -> tuple[str, ...]:
        """The command under a limit of bytes. name: of its own control group."""
        place = "" if self.group is None else str(self.group / name)
        amount = limit if self.group else limit + RESERVED
        return (sys.executable, "-m", "cli.bench.pipeline.memory_limit", str(amount), place, *command)

    def end(self) -> None:
        """Remove the control groups, whose processes have ended."""
        if self.group is not None:
            for made in [*self.group.iterdir(), self.group]:
                with suppress(OSError):  # one of their files, or a process that is just ending
                    made.rmdir()


def memory_limit() -> MemoryLimit:
    """The best kind that works here; call its `end`."""
    for own in own_groups(Path("/proc/self/cgroup").read_text() if ROOT.is_dir() else ""):
        group = own / f"outrider-{os.getpid()}"
        try:
            group.mkdir()
            if (group / LIMITS[0]).exists():  # v2: the groups below need its limits as well
                (group / "cgroup.subtree_control").write_text("+memory")
            (group / "probe").mkdir()
            usable = any((group / "probe" / name).exists() for name in LIMITS)
            (group / "probe").rmdir()
        except OSError:
            usable = False
        if usable:
            return MemoryLimit(group)
        if group.is_dir():
            MemoryLimit(group).end()
    return MemoryLimit(None)


def own_groups(lines: str) -> list[Path]:
    """Where this process's control groups for memory may be, by the lines of /proc/self/cgroup."""
    found = []
    for line in lines.splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            found.append(ROOT / "memory" / path.lstrip("/"))
        elif not controllers:
            found.append(ROOT / path.lstrip("/"))
    return found


def enter(limit: int, group: str) -> None:
    """Limit this process."""
    if not group:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        return
    folder = Path(group)
    folder.mkdir(exist_ok=True)
    next(folder / name for name in LIMITS if (folder / name).exists()).write_text(str(limit))
    (folder / "cgroup.procs").write_text(str(os.getpid()))


if __name__ == "__main__":
    enter(int(sys.argv[1]), sys.argv[2])
    os.execv(sys.argv[3], sys.argv[3:])  # noqa: S606  # the command as it is given, without a shell
