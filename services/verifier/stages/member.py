"""Which rank this process is, as torchrun, or whatever starts the processes, tells it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from shared.runtime.settings import SettingsError


@dataclass(frozen=True, slots=True)
class Member:
    """This process in its group. world: stages and rank 0. elastic: torchrun starts all anew when one dies."""

    rank: int
    world: int
    address: str  # of rank 0's store
    port: int
    elastic: bool = False


def member(stages: int, environ: Mapping[str, str] = os.environ) -> Member:
    """This process by the environment that torchrun sets. stages: as OUTRIDER_STAGES says. Raises SettingsError."""
    try:
        rank, world = int(environ["RANK"]), int(environ["WORLD_SIZE"])
        address, port = environ["MASTER_ADDR"].strip(), int(environ["MASTER_PORT"])
    except KeyError as error:
        raise SettingsError(
            f"OUTRIDER_STAGES={stages}: {error.args[0]} is not set; start {stages + 1} processes with torchrun, "
            f"or the whole stack with `outrider up --stages {stages}`"
        ) from None
    except ValueError as error:
        raise SettingsError(f"RANK, WORLD_SIZE and MASTER_PORT must be numbers: {error}") from None
    if world != stages + 1:
        raise SettingsError(
            f"rank {rank}: OUTRIDER_STAGES={stages} needs WORLD_SIZE={stages + 1}, "
            f"a process for each stage and rank 0; it is {world}"
        )
    if not 0 <= rank < world:
        raise SettingsError(f"RANK={rank}: must be from 0 to {world - 1}")
    if not address:
        raise SettingsError(f"rank {rank}: MASTER_ADDR is empty; it is the address of rank 0")
    if not 0 < port < 65536:
        raise SettingsError(
            f"rank {rank}: MASTER_PORT={port}: must be from 1 to 65535, the same for all ranks"
        )
    return Member(rank, world, address, port, elastic="TORCHELASTIC_RUN_ID" in environ)
