"""Access rights at the broker: one user for each role of the core and one for each device.

The rules are those of Redis' and Valkey's access lists. Passwords are stored only as their SHA-256.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

OPERATOR: Final = "operator"  # may only change the lists
CORE: Final = ("gateway", "scheduler", "verifier", "draft-worker")
NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
# Scripts, and every command that they run on the role's own keys; no KEYS, FLUSHALL, CONFIG, ...
_CORE_COMMANDS: Final = "+@all -@admin -@dangerous +info"
# No scripts: one that never ends would stop every process.
_DEVICE_COMMANDS: Final = "+ping +time +get +set +incr +hgetall +expire +pexpire +xadd +xlen +xread"
_ALL_ROLES: Final = ("%RW~birth", "%R~deployment", "%RW~generation", "%RW~dead", "%RW~trace")
_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "gateway": (
        "%RW~submit",
        "%RW~session:*",
        "%RW~live",
        "%RW~reply:*",
        "%RW~alive:gateway:*",
        "%RW~names:gateway",
        "%RW~alive:*",
        "%R~names:*",
        "%R~policy",
        "%R~shares",
    ),
    "scheduler": ("%RW~*",),
    "verifier": (
        "%RW~staged:*",
        "%RW~verdicts",
        "%RW~session:*",
        "%RW~live",
        "%RW~inbox:*",
        "%RW~reply:*",
        "%RW~alive:verifier:*",
        "%RW~names:verifier",
        "%RW~deployment",
    ),
    "draft-worker": (
        "%RW~draft",  # a script needs both
        "%RW~inbox:*",
        "%RW~alive:draft_worker:*",
        "%RW~names:draft_worker",
    ),
}


@dataclass(frozen=True, slots=True)
class Account:
    """A user of the broker. secret: SHA-256 of the password, in hexadecimal digits."""

    user: str
    secret: str


def secret_of(password: str) -> str:
    """A password's SHA-256, as an access list stores it."""
    return hashlib.sha256(password.encode()).hexdigest()


def device_user(name: str) -> str:
    """The broker's user of a device. Raises ValueError for an invalid name."""
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name for a device: letters, digits, '_', '.' and '-', 64 at most")
    return f"device:{name}"


def rules(user: str, shard: str) -> tuple[str, ...]:
    """A user's rules: allowed commands, and keys with read and write rights. ValueError for an unknown user."""
    if user == OPERATOR:
        return ("+acl", "+ping")
    if user in CORE:
        return _on(shard, *_ALL_ROLES, *_KEYS[user]) + tuple(_CORE_COMMANDS.split())
    kind, _, name = user.partition(":")
    if kind != "device" or not NAME.fullmatch(name):
        raise ValueError(f"{user!r} is no user of this broker")
    own = (
        "%W~draft",
        f"%RW~inbox:{name}:*",
        f"%RW~generation:{name}",
        f"%RW~alive:draft_worker:{name}",
        "%R~deployment",
        "%R~birth",
    )
    return _on(shard, *own) + tuple(_DEVICE_COMMANDS.split())


def set_user(account: Account, shard: str) -> tuple[str, ...]:
    """Arguments of ACL SETUSER."""
    return (account.user, "reset", "on", f"#{account.secret}", *rules(account.user, shard))


def acl_file(accounts: Iterable[Account], shard: str) -> str:
    """The content of `aclfile`: these users and no others."""
    lines = ["user default off -@all"]
    for account in accounts:
        user, _, *rest = set_user(account, shard)
        lines.append(" ".join(["user", user, *rest]))
    return "\n".join(lines) + "\n"


def _on(shard: str, *patterns: str) -> tuple[str, ...]:
    return tuple(pattern.replace("~", f"~or:{{{shard}}}:", 1) for pattern in patterns)
