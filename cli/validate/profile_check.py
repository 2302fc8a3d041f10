"""Whether a profile is of this machine, this model and these versions."""

from collections.abc import Iterator
from typing import Final

from cli.calibrate.hardware import hardware, versions
from shared.planning.profile import Profile

DECISIVE: Final = ("outrider", "torch")  # versions on which the cost of a pass depends


def differences(profile: Profile, model: str, dtype: str) -> list[str]:
    """What the profile says otherwise, each as a few words; none if it fits."""
    return list(_differences(profile, model, dtype))


def _differences(profile: Profile, model: str, dtype: str) -> Iterator[str]:
    here, installed = hardware(), versions()
    pairs = [
        ("model", profile.model, model),
        ("dtype", profile.dtype, dtype),
        ("cpu", profile.hardware.cpu, here.cpu),
        ("cores", profile.hardware.cores, here.cores),
        ("gpu", profile.hardware.gpu, here.gpu),
        *((name, profile.versions.get(name), installed[name]) for name in DECISIVE),
    ]
    for name, theirs, ours in pairs:
        if theirs != ours:
            yield f"{name} {theirs}, here {ours}"
