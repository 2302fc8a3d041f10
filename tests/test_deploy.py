"""Compose, Kubernetes, images and code agree: settings, ports, probes, images, users; and all of it is hardened."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.stack.access import Access
from services.gateway.gateway import LAST_WRITE_S
from shared.broker.access import CORE
from shared.runtime import settings
from shared.runtime.settings import PREFIX, Common

ROOT = Path(__file__).resolve().parents[1]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
ROLES: dict[str, type[Common]] = {
    "gateway": settings.GatewaySettings,
    "scheduler": settings.SchedulerSettings,
    "verifier": settings.VerifierSettings,
    "draft-worker": settings.DraftWorkerSettings,
}
# Settings that compose and Kubernetes give different values on purpose, or that only one of them needs.
COMPOSE_ONLY = {"OUTRIDER_KEYLESS", "OUTRIDER_LINK_MS", "OUTRIDER_LINK_JITTER_MS", "OUTRIDER_LINK_KBIT_S"}
COMPOSE_ONLY |= {"OUTRIDER_LINK_LOSS", "OUTRIDER_NICE", "OUTRIDER_DTYPE", "OUTRIDER_VERIFIER_THREADS"}
COMPOSE_ONLY |= {"OUTRIDER_CELLS", "OUTRIDER_BANDWIDTH", "OUTRIDER_CELL", "OUTRIDER_CELL_ETA"}
KUBERNETES_ONLY = {"OUTRIDER_API_KEYS_FILE", "OUTRIDER_LINGER_S"}


def documents() -> Iterator[dict[str, Any]]:
    for file in sorted((*(ROOT / "k8s" / "base").glob("*.yaml"), ROOT / "k8s" / "loadgen" / "job.yaml")):
        if file.name != "kustomization.yaml":
            yield from yaml.safe_load_all(file.read_text())


OBJECTS = {(one["kind"], one["metadata"]["name"]): one for one in documents()}
KUSTOMIZATION: dict[str, Any] = yaml.safe_load((ROOT / "k8s" / "base" / "kustomization.yaml").read_text())
GIVEN_TO_ALL = dict(line.split("=", 1) for line in KUSTOMIZATION["configMapGenerator"][0]["literals"])


def pod(name: str) -> dict[str, Any]:
    kind = next(kind for kind in ("Deployment", "StatefulSet", "Job") if (kind, name) in OBJECTS)
    spec: dict[str, Any] = OBJECTS[kind, name]["spec"]["template"]["spec"]
    return spec


def dockerfile(name: str) -> str:
    folder = ROOT if name == "loadgen" else ROOT / "services"
    return (folder / name.replace("-", "_") / "Dockerfile").read_text()


def in_image(name: str) -> set[str]:
    return set(re.findall(r"(OUTRIDER_[A-Z_]+)=", dockerfile(name)))


def in_compose(name: str) -> dict[str, str]:
    given: dict[str, str] = COMPOSE["services"][name]["environment"]
    return given


def in_kubernetes(name: str) -> dict[str, str]:
    own = {one["name"]: one["value"] for one in pod(name)["containers"][0]["env"]}
    return {**GIVEN_TO_ALL, **own}


@pytest.mark.parametrize("role", ROLES)
def test_every_setting_that_is_given_exists(role: str) -> None:
    known = {PREFIX + name.upper() for name in ROLES[role].model_fields}
    anybody = {PREFIX + name.upper() for cls in settings.ALL for name in cls.model_fields}
    assert in_image(role) - settings.NOT_OURS <= known
    assert set(in_compose(role)) <= known
    assert set(in_kubernetes(role)) - set(GIVEN_TO_ALL) <= known
    assert set(GIVEN_TO_ALL) <= anybody


@pytest.mark.parametrize("role", ROLES)
def test_compose_and_kubernetes_give_the_same_settings(role: str) -> None:
    shared_ones = set(GIVEN_TO_ALL) - {
        PREFIX + name.upper() for name in ROLES[role].model_fields
    }  # for other roles
    here = set(in_compose(role)) - COMPOSE_ONLY
    there = set(in_kubernetes(role)) - KUBERNETES_ONLY - shared_ones - in_image(role)
    assert here == there


@pytest.mark.parametrize("role", ROLES)
def test_each_role_comes_with_its_own_user_and_password(role: str) -> None:
    assert role in CORE
    for given in (in_compose(role), in_kubernetes(role)):
        assert given["OUTRIDER_BROKER_USER"] == role
        assert given["OUTRIDER_BROKER_PASSWORD_FILE"] == f"/access/{role}/password"
    mounts = [
        mount for mount in pod(role)["containers"][0]["volumeMounts"] if "/access" in mount["mountPath"]
    ]
    assert [(mount["mountPath"], mount["readOnly"]) for mount in mounts] == [(f"/access/{role}", True)]
    volumes = [volume for volume in COMPOSE["services"][role]["volumes"] if "/access" in volume]
    assert volumes == [f"access-{role}:/access/{role}:ro"]


async def test_passwords_are_made_in_volumes_alone(tmp_path: Path) -> None:
    """Everything else is read-only in compose's `access`, the lock's folder too."""
    access = Access(tmp_path / "access")
    async with access.locked():
        access.prepare()
    mounts = {Path(volume.split(":")[1]) for volume in COMPOSE["services"]["access"]["volumes"]}
    made = {Path("/") / file.relative_to(tmp_path) for file in tmp_path.rglob("*") if file.is_file()}
    assert len(made) > len(mounts)
    assert {file.parent for file in made} == mounts


@pytest.mark.parametrize("role", ROLES)
def test_ports_are_those_of_the_code(role: str) -> None:
    health = ROLES[role].model_fields["health_port"].default
    ports = {port["name"]: port["containerPort"] for port in pod(role)["containers"][0]["ports"]}
    assert ports["health"] == health
    (listed,) = re.findall(r"^EXPOSE (.+)$", dockerfile(role), re.M)
    exposed = {int(port) for port in listed.split()}
    assert exposed == set(ports.values())
    assert f'"shared.runtime.probe", "{health}"' in dockerfile(role)
    if role == "gateway":
        assert ports["http"] == settings.GatewaySettings.model_fields["port"].default
        assert COMPOSE["services"][role]["ports"] == [f"127.0.0.1:${{PORT:-8000}}:{ports['http']}"]


@pytest.mark.parametrize("role", ROLES)
def test_three_different_questions_are_asked(role: str) -> None:
    container = pod(role)["containers"][0]
    probes = [container[f"{kind}Probe"] for kind in ("startup", "readiness", "liveness")]
    assert [probe["httpGet"]["path"] for probe in probes] == ["/readyz", "/readyz", "/healthz"]
    patience = [probe["periodSeconds"] * probe["failureThreshold"] for probe in probes]
    assert len(set(patience)) == 3
    assert patience[0] == max(patience)


def test_a_gateway_is_given_the_time_that_it_takes_to_drain() -> None:
    composed, clustered = in_compose("gateway"), in_kubernetes("gateway")
    grace_s = int(COMPOSE["services"]["gateway"]["stop_grace_period"].removesuffix("s"))
    assert float(composed["OUTRIDER_DRAIN_S"]) + LAST_WRITE_S < grace_s
    drain_s = float(clustered["OUTRIDER_LINGER_S"]) + float(clustered["OUTRIDER_DRAIN_S"])
    assert drain_s + LAST_WRITE_S < pod("gateway")["terminationGracePeriodSeconds"]


def test_images_are_the_same_everywhere() -> None:
    composed = {name: one["image"] for name, one in COMPOSE["services"].items()}
    for name in (*ROLES, "models", "broker", "loadgen"):
        assert pod(name)["containers"][0]["image"] == composed[name]
        if name != "broker":
            assert composed[name] == f"outrider-{name}:{VERSION}"
    for name in ROLES:
        assert (
            COMPOSE["services"][name]["build"]["dockerfile"]
            == f"services/{name.replace('-', '_')}/Dockerfile"
        )


def test_the_broker_is_started_alike() -> None:
    composed = COMPOSE["services"]["broker"]["command"].split()
    clustered = [*pod("broker")["containers"][0]["command"], *pod("broker")["containers"][0]["args"]]
    assert [word.strip('"') for word in composed] == clustered


@pytest.mark.parametrize("name", [*ROLES, "models", "broker", "loadgen"])
def test_nothing_runs_with_more_rights_than_it_needs(name: str) -> None:
    composed = COMPOSE["services"][name]
    assert composed["read_only"] is composed["init"] is True
    assert composed["cap_drop"] == ["ALL"]
    assert composed["security_opt"] == ["no-new-privileges:true"]
    assert not composed.get("privileged")
    context, container = pod(name)["securityContext"], pod(name)["containers"][0]
    assert context["runAsNonRoot"] is True
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod(name)["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert set(container["resources"]) == {"requests", "limits"}
    if name in (*ROLES, "loadgen"):
        assert "USER 10001:10001" in dockerfile(name)
    if name in ROLES:
        assert ("PodDisruptionBudget", name) in OBJECTS


def test_compose_uses_nothing_that_one_of_its_two_versions_lacks() -> None:
    assert not {"name", "include", "develop", "configs"} & set(COMPOSE)
    for service in COMPOSE["services"].values():
        assert not {"develop", "gpus", "pull_policy", "annotations"} & set(service)
        assert "start_interval" not in service.get("healthcheck", {})
        for needed in service.get("depends_on", {}).values():
            assert set(needed) == {"condition"}


def test_no_dockerfile_asks_for_another_frontend_and_all_are_of_pinned_bases() -> None:
    for name in (*ROLES, "loadgen"):
        text = dockerfile(name)
        assert "# syntax" not in text
        assert set(re.findall(r"^FROM (\S+)", text, re.M)) <= {"python:3.11-slim-bookworm", "torch"}
        assert "curl" not in text


@pytest.mark.parametrize("name", ["draft-worker", "verifier"])
def test_an_image_with_llama_cpp_is_not_built_unless_it_drafts(name: str) -> None:
    """The probe runs in the last stage with llama.cpp, as the image's user, without the variant that dies of SIGILL."""
    stages = dockerfile(name).split("\nFROM ")
    with_llama = [stage for stage in stages if "services.draft_worker.proof" in stage]
    assert len(with_llama) == 1
    installed, proved, *_ = with_llama[0].partition("RUN python -m services.draft_worker.proof\n")
    assert proved
    assert "USER 10001:10001" in installed
    assert any("rm -f" in stage and "libggml-cpu-sapphirerapids.so" in stage for stage in stages)
    assert all("-DGGML_NATIVE=OFF" in stage for stage in stages if "pip wheel" in stage)


# --- the pipeline: a profile of compose, an overlay of Kubernetes ---
PIPELINE = ROOT / "k8s" / "overlays" / "pipeline"
RANKS = {one["kind"]: one for one in yaml.safe_load_all((PIPELINE / "ranks.yaml").read_text())}
GROUP = ("OUTRIDER_STAGES", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def test_the_pipeline_of_compose_is_one_group_and_started_on_request_alone() -> None:
    services = {name: one for name, one in COMPOSE["services"].items() if one.get("profiles") == ["pipeline"]}
    environments = [one["environment"] for one in services.values()]
    assert list(services) == ["pipeline", "stage-1", "stage-2"]
    assert [one["RANK"] for one in environments] == ["0", "1", "2"]
    for name in GROUP:
        assert len({one[name] for one in environments}) == 1
    front = services["pipeline"]
    assert (
        front["environment"]["WORLD_SIZE"]
        == str(len(services))
        == str(1 + int(front["environment"]["OUTRIDER_STAGES"]))
    )
    assert front["networks"]["ranks"]["aliases"] == [front["environment"]["MASTER_ADDR"]]
    assert in_compose("verifier").items() <= front["environment"].items()
    assert "ranks" not in str(COMPOSE["services"]["verifier"])


def test_stages_reach_each_other_alone_and_have_no_credential() -> None:
    assert COMPOSE["networks"]["ranks"] == {"internal": True}
    for name in ("stage-1", "stage-2"):
        stage = COMPOSE["services"][name]
        assert stage["networks"] == ["ranks"]
        assert not [setting for setting in stage["environment"] if "BROKER" in setting]
        assert not [volume for volume in stage["volumes"] if "access" in volume]
        verifier = in_compose("verifier")
        same = {"OUTRIDER_MODEL_DIR", "OUTRIDER_DTYPE", "OUTRIDER_VERIFIER_THREADS"}
        assert {setting: stage["environment"][setting] for setting in same} == {
            one: verifier[one] for one in same
        }


@pytest.mark.parametrize("name", ["pipeline", "stage-1", "stage-2"])
def test_ranks_run_with_no_more_rights_than_a_verifier(name: str) -> None:
    rank, verifier = COMPOSE["services"][name], COMPOSE["services"]["verifier"]
    assert "ports" not in rank
    for field in (
        "image",
        "init",
        "read_only",
        "cap_drop",
        "security_opt",
        "tmpfs",
        "restart",
        "stop_grace_period",
    ):
        assert rank[field] == verifier[field]


def test_the_ranks_of_kubernetes_are_verifiers_with_a_group() -> None:
    spec, base = RANKS["StatefulSet"]["spec"], OBJECTS["Deployment", "verifier"]["spec"]
    ranks, verifier = (one["template"]["spec"]["containers"][0] for one in (spec, base))
    own = {one["name"]: one for one in ranks["env"]}
    theirs = {one["name"]: one for one in verifier["env"]}
    assert {name: own[name] for name in theirs} == theirs
    assert set(own) - set(theirs) == {*GROUP, "RANK"}
    assert (
        own["WORLD_SIZE"]["value"] == str(spec["replicas"]) == str(1 + int(own["OUTRIDER_STAGES"]["value"]))
    )
    assert (
        own["RANK"]["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.labels['apps.kubernetes.io/pod-index']"
    )
    service = RANKS["Service"]
    assert (
        own["MASTER_ADDR"]["value"]
        == f"{RANKS['StatefulSet']['metadata']['name']}-0.{service['metadata']['name']}"
    )
    assert spec["serviceName"] == service["metadata"]["name"]
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert own["MASTER_PORT"]["value"] == str(service["spec"]["ports"][0]["port"])
    assert (
        spec["podManagementPolicy"] == "Parallel"
    )  # in order, rank 0 would wait for ranks that wait for rank 0
    for field in (
        "image",
        "envFrom",
        "securityContext",
        "startupProbe",
        "readinessProbe",
        "livenessProbe",
        "volumeMounts",
    ):
        assert ranks[field] == verifier[field]
    for field in (
        "securityContext",
        "volumes",
        "automountServiceAccountToken",
        "terminationGracePeriodSeconds",
    ):
        assert spec["template"]["spec"][field] == base["template"]["spec"][field]


def test_only_ranks_reach_the_ports_of_a_rank() -> None:
    labels = RANKS["StatefulSet"]["spec"]["template"]["metadata"]["labels"]
    policy = RANKS["NetworkPolicy"]["spec"]
    assert policy["podSelector"] == {"matchLabels": labels}
    assert policy["policyTypes"] == ["Ingress"]
    among, health = policy["ingress"]
    assert among == {"from": [{"podSelector": {"matchLabels": labels}}]}
    assert health == {"ports": [{"port": "health"}]}
    assert RANKS["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels


def test_the_overlay_has_ranks_in_place_of_the_verifier() -> None:
    overlay = yaml.safe_load((PIPELINE / "kustomization.yaml").read_text())
    deleted = {
        tuple(one["target"].values()) for one in overlay["patches"] if "$patch: delete" in one["patch"]
    }
    assert deleted == {("Deployment", "verifier"), ("PodDisruptionBudget", "verifier")}
    assert "overlays/pipeline" in (ROOT / "scripts" / "k8s_validate.py").read_text()
