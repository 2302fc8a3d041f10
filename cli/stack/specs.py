"""Options of a local stack, and its processes with their command lines and settings."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cli.command.cores import cores
from cli.stack.access import Access
from cli.stack.ports import HOST, Claim, Ports
from cli.stack.processes import Spec
from shared.broker.access import CORE
from shared.broker.embedded import server_argv

# On one machine drafting gets only the CPU time that verification leaves. All users wait for a verification, and its
# threads wait for each other, so that a delay of one thread delays everybody.
DRAFT_NICE: Final = 10
STAGE: Final = "stage-"  # names of the processes that hold the target's layers begin so


@dataclass(frozen=True, slots=True)
class StackOptions:
    """Options of a stack. target_dir: folder of the target; draft_model: GGUF file. A modelled stack needs neither."""

    target_dir: Path | None = None
    draft_model: Path | None = None
    served_name: str = ""
    modelled: bool = False
    draft_workers: int = 2
    ports: Ports = field(default_factory=Ports)
    state_dir: Path = Path(".outrider")
    env: Mapping[str, str] = field(default_factory=dict)  # further settings for every service
    listen: str = ""  # address of this machine on which remote devices reach the broker; "" = none
    devices: tuple[str, ...] = ()  # arguments of services.draft_worker.fleet; () = no emulated devices
    stages: int = 1  # processes for the target's layers; 1 = the verifier has them all

    @property
    def health_ports(self) -> int:
        """Consecutive ports from ports.health on: a health page for each service, and one where the stages meet."""
        return 3 + self.draft_workers + bool(self.devices) + (1 + self.stages if self.stages > 1 else 0)

    @property
    def meeting_port(self) -> int:
        """Port at which the ranks of a pipeline find each other."""
        return self.ports.health + self.health_ports - 1


@dataclass(frozen=True, slots=True)
class _Service:
    """A service of the stack, run as `python -m services.{package}`."""

    name: str
    package: str
    env: Mapping[str, str]
    arguments: tuple[str, ...] = ()

    @property
    def role(self) -> str:
        """Name of the role, as in settings and credentials."""
        return self.package.partition(".")[0]


def access_of(state_dir: Path) -> Access:
    """Passwords and devices of the stack with this state folder."""
    return Access(state_dir.resolve() / "access")


def specs(options: StackOptions, stack_id: str = "") -> list[Spec]:
    """All processes of the stack in starting order. stack_id: returned by their health pages; "" = none."""
    access = access_of(options.state_dir)
    server = server_argv(
        HOST,
        options.ports.broker,
        listen=options.listen,
        access_list=str(access.acl_file) if options.listen else "",
    )
    common = {
        "OUTRIDER_BROKER_URL": f"redis://{HOST}:{options.ports.broker}/0",
        "OUTRIDER_MODEL_DIR": str(options.target_dir or ""),
        **({"OUTRIDER_STACK": stack_id} if stack_id else {}),
        **options.env,
        **({"OUTRIDER_TARGET": "modelled"} if options.modelled else {}),
    }
    return [
        Spec("broker", server),
        *(
            _spec(service, {**common, **_credential(service.role, options, access)}, port)
            for service, port in _with_ports(options)
        ),
    ]


def claims(options: StackOptions) -> list[Claim]:
    """All ports on which the stack listens."""
    ports, listen = options.ports, options.listen
    return [
        Claim(HOST, ports.gateway, "--port"),
        Claim(HOST, ports.broker, "--broker-port"),
        *([Claim(listen, ports.broker, "--broker-port")] if listen not in ("", HOST) else []),
        *(Claim(HOST, port, "--health-port") for _, port in sorted(_with_ports(options), key=lambda p: p[1])),
        *([Claim(HOST, options.meeting_port, "--health-port")] if options.stages > 1 else []),
    ]


def _with_ports(options: StackOptions) -> Iterator[tuple[_Service, int]]:
    """Services in starting order, with their health ports. The gateway starts last but has the first port."""
    *others, gateway = _services(options)
    order = {"scheduler": 1, "verifier": 2}
    for offset, service in enumerate(others, start=1):
        yield service, options.ports.health + order.get(service.name, offset)
    yield gateway, options.ports.health


def _services(options: StackOptions) -> list[_Service]:
    """Verifier, scheduler, devices, stages and gateway, in starting order."""
    if options.modelled:
        drafting = {"OUTRIDER_DRAFTER": "modelled"}
    else:
        drafting = {"OUTRIDER_DRAFT_MODEL": str(options.draft_model or ""), "OUTRIDER_NICE": str(DRAFT_NICE)}
    serving = {"OUTRIDER_PORT": str(options.ports.gateway), "OUTRIDER_SERVED_NAME": options.served_name}
    devices = [
        _Service(f"draft-worker-{i}", "draft_worker", {"OUTRIDER_NAME": f"device-{i}", **drafting})
        for i in range(options.draft_workers)
    ]
    if options.devices:
        devices.append(
            _Service("devices", "draft_worker.fleet", {"OUTRIDER_NAME": "device"}, options.devices)
        )
    return [
        _Service("verifier", "verifier", {"OUTRIDER_NAME": "verifier", **_rank(options, 0)}),
        _Service("scheduler", "scheduler", {"OUTRIDER_NAME": "scheduler"}),
        *devices,
        *(
            _Service(f"{STAGE}{rank}", "verifier", {"OUTRIDER_NAME": "verifier", **_rank(options, rank)})
            for rank in range(1, options.stages + 1)
            if options.stages > 1
        ),
        _Service("gateway", "gateway", {"OUTRIDER_NAME": "gateway", **serving}),
    ]


def _rank(options: StackOptions, rank: int) -> dict[str, str]:
    """What torchrun would tell a rank of the pipeline; {} without one."""
    if options.stages == 1:
        return {}
    return {
        "OUTRIDER_STAGES": str(options.stages),
        "RANK": str(rank),
        "WORLD_SIZE": str(options.stages + 1),
        "MASTER_ADDR": HOST,
        "MASTER_PORT": str(options.meeting_port),
        "OUTRIDER_VERIFIER_THREADS": str(max(1, cores() // options.stages)),  # they compute at the same time
        **options.env,
    }


def _spec(service: _Service, env: Mapping[str, str], health_port: int) -> Spec:
    return Spec(
        service.name,
        (sys.executable, "-m", f"services.{service.package}", *service.arguments),
        {**env, **service.env, "OUTRIDER_HEALTH_PORT": str(health_port)},
        f"http://{HOST}:{health_port}/readyz",
        device=service.role == "draft_worker",
    )


def _credential(role: str, options: StackOptions, access: Access) -> dict[str, str]:
    """Settings with which a service authenticates at a broker with passwords; {} where none are needed."""
    user = role.replace("_", "-")
    if not options.listen or user not in CORE:
        return {}
    devices = {"OUTRIDER_DEVICES_FILE": str(access.devices_file)} if role == "scheduler" else {}
    return {
        "OUTRIDER_BROKER_USER": user,
        "OUTRIDER_BROKER_PASSWORD_FILE": str(access.password_file(user)),
        **devices,
    }
