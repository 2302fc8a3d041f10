"""The list of devices with their own credential: a file beside the broker's access list, kept by `outrider devices`.

The scheduler reads it to know which heartbeats to look for, and when a credential expires.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, TypeAdapter, ValidationError

SCHEMA: Final = 1


class DeviceListError(ValueError):
    """The file is not a list of devices; the text names the file and the fault."""


@dataclass(frozen=True, slots=True)
class Device:
    """One device. secret: SHA-256 of its password; added_s, expires_s: seconds since 1970, 0 = never."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
    secret: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    added_s: Annotated[int, Field(ge=0)]
    expires_s: Annotated[int, Field(ge=0)] = 0


_DEVICES: Final = TypeAdapter(tuple[Device, ...])


def read_devices(path: Path) -> tuple[Device, ...]:
    """The devices in a file; () when there is no such file. Raises DeviceListError."""
    try:
        whole = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(whole, dict) or whole.get("schema") != SCHEMA:
            raise DeviceListError(f"{path}: not a list of devices of schema {SCHEMA}")
        return _DEVICES.validate_python(whole.get("devices"), strict=False)
    except FileNotFoundError:
        return ()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise DeviceListError(f"{path}: devices.{place}: {first['msg']}") from None
    except (OSError, ValueError) as error:
        raise error if isinstance(error, DeviceListError) else DeviceListError(f"{path}: {error}") from None


def write_devices(path: Path, devices: Sequence[Device]) -> None:
    """Replace the list atomically; only its owner may read it. Raises OSError."""
    whole = {"schema": SCHEMA, "devices": [asdict(device) for device in devices]}
    write_private(path, json.dumps(whole, indent=2) + "\n")


def write_private(path: Path, text: str) -> None:
    """Write a file atomically that only its owner may read. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    new.replace(path)
