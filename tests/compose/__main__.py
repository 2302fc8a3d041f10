"""`make compose-test`: docker-compose.yml on a real Docker engine, from build to down.

    python -m tests.compose [--keep]

Builds, starts, sends requests through the published port and compares every token with the committed reference, scales
draft workers to three, kills one of them and the verifier while requests run, restarts the broker, gives three draft
workers different links and looks at what the scheduler makes of them, lets a device join through the profile `lan`,
drives it all with the load generator's own container, and looks whether `down` left anything. Prints image sizes and
the cold start. Works with `docker compose` and with docker-compose 1.29.
"""

import argparse
import asyncio
import itertools
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from cli.admin import Admin
from cli.stack.stack import Ports
from loadgen.client.streaming import Client
from loadgen.request import Record
from tests.exactness.runner import CASES, request
from tests.integration.joining import Machine

ROOT: Final = Path(__file__).resolve().parents[2]
PROJECT: Final = "outrider-test"
IMAGES: Final = ("gateway", "scheduler", "verifier", "draft-worker", "models", "loadgen")
LOADGEN: Final = ("--profile", "loadgen")
METRICS_AT: Final = {"gateway": 9101, "scheduler": 9102, "verifier": 9103}
COLD_S: Final = 600.0
WAIT_S: Final = 60.0
LINKS_MS: Final = (5, 30, 80)
NEAR: Final = 0.2  # of what was set
METRICS: Final = (
    "import urllib.request as r; print(r.urlopen('http://127.0.0.1:9102/metrics').read().decode())"
)


class Failed(Exception):
    """The test failed; the text says why."""


class Compose:
    """The stack under a separate project name."""

    def __init__(self, ports: Ports) -> None:
        self.url = f"http://127.0.0.1:{ports.gateway}"
        plugin = (
            subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0
        )
        if not plugin and not shutil.which("docker-compose"):
            raise Failed("neither `docker compose` nor docker-compose is here")
        self._command = ["docker", "compose"] if plugin else ["docker-compose"]
        self._env = {
            **os.environ,
            "PORT": str(ports.gateway),
            "LAN_PORT": str(ports.broker),
            "COMPOSE_PROFILES": "lan",
            "DTYPE": "float32",
            "DOCKER_BUILDKIT": "1",
            "COMPOSE_DOCKER_CLI_BUILD": "1",
        }

    def run(self, *words: str, quiet: bool = True) -> str:
        """Run a compose command. Raises Failed with its output."""
        done = subprocess.run(
            [*self._command, "-p", PROJECT, *words],
            cwd=ROOT,
            env=self._env,
            check=False,
            text=True,
            stdout=subprocess.PIPE if quiet else None,
            stderr=subprocess.STDOUT if quiet else None,
        )
        if done.returncode:
            raise Failed(f"compose {' '.join(words)}: {(done.stdout or '').strip()[-2000:]}")
        return done.stdout or ""

    def containers(self, service: str) -> list[str]:
        """Ids of a service's running containers."""
        return docker(
            "ps", "-q", *of_project(), "--filter", f"label=com.docker.compose.service={service}"
        ).split()


def docker(*words: str) -> str:
    """Run a docker command; returns its output. Raises Failed."""
    done = subprocess.run(["docker", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"docker {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def of_project() -> tuple[str, str]:
    """Filter for all objects of this test's project."""
    return "--filter", f"label=com.docker.compose.project={PROJECT}"


def say(text: str) -> None:
    """Print a line and flush."""
    print(text, flush=True)


async def ready(compose: Compose, devices: int, limit_s: float) -> float:
    """Wait until the gateway serves and this number of devices draft; returns the seconds. Raises Failed."""
    began, why = time.monotonic(), "nothing yet"
    while time.monotonic() - began < limit_s:
        try:
            async with Admin(compose.url) as admin:
                status = await admin.status()
            there = sum(beat["capacity"] > 0 for beat in status["devices"])
            if not status["objection"] and status["verifiers"] and there == devices:
                return time.monotonic() - began
            why = status["objection"] or f"{there} of {devices} devices"
        except Exception as error:  # whatever a gateway that starts or restarts answers
            why = f"{type(error).__name__}: {error}"
        await asyncio.sleep(0.3)
    raise Failed(f"not ready after {limit_s:.0f} s: {why}")


async def texts(compose: Compose, cases: Sequence[dict[str, object]], what: str, *devices: str) -> int:
    """Run all cases at once, on these devices in turn. Returns accepted tokens. Raises Failed if texts differ."""
    device_names = itertools.cycle(devices or [""])
    requests = [replace(request(case), device=next(device_names)) for case in cases]
    async with Client(compose.url) as client:
        records: list[Record] = await client.chat_all(requests)
    for case, record in zip(cases, records, strict=True):
        if record.error or record.tokens != case["tokens"]:
            raise Failed(f"{what}, {case['id']}: {record.error or 'another text than the reference'}")
    drafted = sum(record.accepted_tokens for record in records)
    say(f"  {what}: {len(records)} texts are the reference's, {drafted} of their tokens drafted")
    return drafted


async def scenes(compose: Compose) -> None:
    """All checks of a running stack. Raises Failed."""
    await texts(compose, CASES[:8], "eight at once")
    compose.run("up", "-d", "--no-build", "--scale", "draft-worker=3")
    say(f"three draft workers after {await ready(compose, 3, WAIT_S):.1f} s")
    await texts(compose, CASES[8:20], "three draft workers")

    running = asyncio.create_task(
        texts(compose, CASES[20:36], "a draft worker and the verifier killed meanwhile")
    )
    await asyncio.sleep(3)
    docker("kill", compose.containers("draft-worker")[0])
    await asyncio.sleep(2)
    docker("kill", *compose.containers("verifier"))
    began = time.monotonic()
    compose.run("up", "-d", "--no-build", "--scale", "draft-worker=3")
    await running
    say(f"all there again {await ready(compose, 3, WAIT_S) + time.monotonic() - began:.1f} s after the kill")

    loading(compose)
    compose.run("restart", "broker")
    say(f"broker restarted, everybody registered again after {await ready(compose, 3, WAIT_S):.1f} s")
    await texts(compose, CASES[36:44], "after the broker lost its data")
    nobody_died()
    await links(compose)
    await joining(compose)
    nobody_died()


def nobody_died() -> None:
    """Raise Failed if a container other than those killed here was restarted."""
    ids = docker("ps", "-q", *of_project()).split()
    counts = docker("inspect", "-f", "{{.Name}} {{.RestartCount}}", *ids).splitlines()
    if died := [line for line in counts if not line.endswith(" 0")]:
        raise Failed(f"ended by themselves and were started again: {', '.join(died)}")


async def links(compose: Compose) -> None:
    """Three draft workers behind different links: the scheduler's estimates are near what was set. Raises Failed."""
    compose.run("up", "-d", "--no-build", "--scale", "draft-worker=0")
    names = {ms: f"link-{ms}" for ms in LINKS_MS}
    for ms, name in names.items():
        compose.run(
            *("run", "-d", "--no-deps", "-e", f"OUTRIDER_LINK_MS={ms}", "-e", f"OUTRIDER_NAME={name}"),
            "draft-worker",
        )
    await ready(compose, len(names), WAIT_S)
    for first in range(0, 12, 3):  # a user for each at a time: so it is the link that they wait for
        await texts(compose, CASES[first : first + 3], "three links", *names.values())
    shown = docker("exec", *compose.containers("scheduler"), "python", "-c", METRICS)
    for ms, name in names.items():
        found = re.search(rf'^outrider_scheduler_device_delay_seconds{{device="{name}"}} (\S+)', shown, re.M)
        if not found:
            raise Failed(f"{name}: the scheduler shows no estimate of its link")
        estimate_ms = 1000 * float(found[1]) / 2
        say(f"  {name}: {estimate_ms:.1f} ms one way by the scheduler's estimate, {ms} set")
        if abs(estimate_ms - ms) > NEAR * ms:
            raise Failed(f"{name}: the link is taken for {estimate_ms:.1f} ms one way")
    docker("rm", "-f", *compose.containers("draft-worker"))


def loading(compose: Compose) -> None:
    """Run the load generator in its container: its counts must equal the services' metrics. Raises Failed."""
    pages = [f"--metrics=http://{name}:{port}/metrics" for name, port in METRICS_AT.items()]
    options = ["--rate=1", "--requests=15", "--answer-tokens=24", "--out=/results/load.json"]
    compose.run(
        *LOADGEN, "run", "--rm", "-T", "loadgen", "run", "--url=http://gateway:8000", *pages, *options
    )
    report = ["report", "/results/load.json", "-o", "/results/load.html"]
    compose.run(*LOADGEN, "run", "--rm", "-T", "loadgen", *report)
    say("the load generator in its container: a valid result, and its report")


async def joining(compose: Compose) -> None:
    """A remote device joins through the profile `lan` with the printed command. Raises Failed."""
    line = compose.run("run", "--rm", "-T", "devices", "add", "porch").strip().splitlines()[-1]
    with TemporaryDirectory() as folder:
        porch = Machine(Path(folder))
        await porch.run(line)
        try:
            await ready(compose, 1, WAIT_S)
            if not await texts(compose, CASES[:3], "a device from outside", "porch"):
                raise Failed("the device that joined drafted nothing")
        finally:
            await porch.stop()


def look_for_leftovers() -> None:
    """Raise Failed if `down` left containers, networks or volumes."""
    for kind, words in {
        "containers": ("ps", "-aq"),
        "networks": ("network", "ls", "-q"),
        "volumes": ("volume", "ls", "-q"),
    }.items():
        if left := docker(*words, *of_project()).split():
            raise Failed(f"{kind} left after down: {', '.join(left)}")


def main() -> None:
    """Run the whole test. Exits with 1 and one line when it fails."""
    parser = argparse.ArgumentParser(description="docker-compose.yml on a real engine.")
    parser.add_argument("--keep", action="store_true", help="leave the stack running when something is wrong")
    args = parser.parse_args()
    compose = None
    try:
        compose = Compose(Ports.free())
        say("building")
        compose.run(*LOADGEN, "build", quiet=False)
        for image in IMAGES:
            size = docker("image", "inspect", "-f", "{{.Size}}", f"outrider-{image}:0.1.0")
            say(f"  outrider-{image}: {int(size) / 1e6:.0f} MB")
        began = time.monotonic()
        compose.run("up", "-d", "--no-build")
        asyncio.run(ready(compose, 1, COLD_S))
        say(f"up and ready after {time.monotonic() - began:.1f} s, models fetched and converted within it")
        asyncio.run(scenes(compose))
        compose.run(*LOADGEN, "down", "-v", "--remove-orphans")
        look_for_leftovers()
        say("down: nothing left")
    except Failed as failed:
        if compose is not None:
            print(compose.run("logs", "--tail", "30"), file=sys.stderr)
            if not args.keep:
                compose.run(*LOADGEN, "down", "-v", "--remove-orphans")
        sys.exit(f"compose-test: {failed}")


if __name__ == "__main__":
    main()
