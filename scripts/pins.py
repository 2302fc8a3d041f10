"""Resolve constraints.txt anew, with uv: one file for every Python and system that Outrider is promised for.

    python scripts/pins.py [--upgrade]

A pin stays as it is while it satisfies pyproject.toml; --upgrade takes the newest versions instead. What only some
Pythons or systems need gets a marker. Afterwards each Python on each platform is resolved on its own, from wheels
alone, so that a pin without a wheel for one of them is an error here and not on a user's machine.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / "constraints.txt"
PYPROJECT = ROOT / "pyproject.toml"
PLATFORMS = ("x86_64-manylinux_2_28", "aarch64-manylinux_2_28", "aarch64-apple-darwin")
MACOS = "14.0"  # the oldest that torch has wheels for
NO_WHEEL = "llama-cpp-python"  # compiled where it is installed
COMMON = (
    "--extra",
    "dev",
    "--group",
    "build",
    "--no-emit-package",
    "outrider",
    "--no-header",
    "--no-annotate",
)
# The same result everywhere: no index or folder of the machine that this runs on.
INDEX = ("--no-config", "--default-index", "https://pypi.org/simple")


def main():
    """Write constraints.txt, or end with uv's own words."""
    parser = argparse.ArgumentParser(description="Resolve constraints.txt anew.")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions")
    args = parser.parse_args()
    pythons = promised()
    with tempfile.TemporaryDirectory() as folder:
        uv = uv_in(Path(folder) / "venv")
        found = Path(folder) / "constraints.txt"
        found.write_text(CONSTRAINTS.read_text())
        upgrade = ["--upgrade"] if args.upgrade else []
        compiled(uv, "--universal", "--python-version", pythons[0], *upgrade, "-o", found)
        for python in pythons:
            for platform in PLATFORMS:
                check(uv, python, platform, found)
                print(f"Python {python} on {platform}: every pin has a wheel", flush=True)
        CONSTRAINTS.write_text(header() + found.read_text())
    print(f"wrote {CONSTRAINTS}")


def promised():
    """Versions of Python that pyproject.toml names, oldest first: ["3.11", ...]."""
    classifiers = tomllib.loads(PYPROJECT.read_text())["project"]["classifiers"]
    found = [match[1] for text in classifiers if (match := re.search(r":: Python :: (\d+\.\d+)$", text))]
    return sorted(found, key=lambda version: [int(part) for part in version.split(".")])


def uv_in(folder):
    """uv, as pinned, in an environment of its own."""
    venv.create(folder, with_pip=True)
    subprocess.run([folder / "bin" / "pip", "install", "--quiet", "-c", CONSTRAINTS, "uv"], check=True)
    return folder / "bin" / "uv"


def check(uv, python, platform, constraints):
    """Every pin has a wheel for this Python on this platform."""
    wheels = ("--only-binary", ":all:", "--no-binary", NO_WHEEL)
    compiled(uv, "--python-version", python, "--python-platform", platform, *wheels, "-c", constraints)


def compiled(uv, *options):
    """Run `uv pip compile`; its output is shown if it fails."""
    command = [uv, "pip", "compile", *COMMON, *INDEX, *options, PYPROJECT]
    env = {**os.environ, "MACOSX_DEPLOYMENT_TARGET": MACOS}
    done = subprocess.run(list(map(str, command)), env=env, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"outrider pins: {' '.join(map(str, options))}\n{done.stderr.strip()}")


def header():
    """The comment at the top of constraints.txt, which stays."""
    lines = CONSTRAINTS.read_text().splitlines(keepends=True)
    return "".join(line for line in lines if line.startswith("#"))


if __name__ == "__main__":
    main()
