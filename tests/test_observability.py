"""The dashboard's queries use existing metrics and labels, and Prometheus scrapes the right ports."""

import json
import re
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from prometheus_client import CollectorRegistry

from services.draft_worker.metrics import Metrics as DeviceMetrics
from services.gateway.metrics import Metrics as GatewayMetrics
from services.scheduler.device_gauges import DeviceGauges
from services.scheduler.metrics import Metrics as SchedulerMetrics
from services.verifier.metrics import Metrics as VerifierMetrics
from services.verifier.stages.link import QueueLink
from services.verifier.stages.messages import Facts, StageState
from services.verifier.stages.ring import Ring
from services.verifier.stages.stage_metrics import StageMetrics
from services.verifier.trees.tree_metrics import TreeMetrics
from shared.planning.estimates import DeviceEstimate, Mean
from shared.runtime import settings

ROOT = Path(__file__).resolve().parents[1]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
FOLDER = ROOT / "observability"
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "grafana" / "dashboards" / "outrider.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]
# Those that Prometheus adds itself.
OF_PROMETHEUS = {"up": {"job", "instance"}}
LABELS_OF_ALL = {"job", "instance", "le"}


class NoSessions:
    """Stands for the gateway's sessions."""

    counts: ClassVar[dict[str, int]] = {}

    def __len__(self) -> int:
        return 0


class NoTrees:
    """Stands for the verifier's engine of trees."""

    def sizes(self) -> list[int]:
        return []


def metrics() -> dict[str, set[str]]:
    """Labels of all series of a service, by name."""
    registry = CollectorRegistry()
    SchedulerMetrics(registry)
    known = DeviceEstimate(alpha=Mean(0.8))
    known.observe(4, 0.04, 0.05)
    registry.register(DeviceGauges(lambda: {"d": known}))
    VerifierMetrics(registry)
    ring = Ring(Facts(0, "", "", "", "", 0, 1, ""), 1, QueueLink(), QueueLink())
    ring.states = (StageState(1, 1, 0, 0, 0, 0, 0),)
    registry.register(StageMetrics(ring))
    registry.register(TreeMetrics(NoTrees()))  # type: ignore[arg-type]  # its sizes are all that is asked for
    GatewayMetrics(registry, NoSessions())  # type: ignore[arg-type]  # its counts are all that is asked for
    DeviceMetrics(registry)
    found = dict(OF_PROMETHEUS)
    for collector in registry._collector_to_names:
        labels = set(getattr(collector, "_labelnames", ()))
        for family in collector.collect():
            for ending in {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(
                family.type, ("",)
            ):
                shown = {label for sample in family.samples for label in sample.labels}
                found[family.name + ending] = labels | shown
    return found


METRICS = metrics()


@pytest.mark.parametrize("query", QUERIES)
def test_every_query_names_metrics_and_labels_that_there_are(query: str) -> None:
    names = re.findall(r"\b(outrider_\w+|up)\b(?:\{([^}]*)\})?", query)
    assert names
    labels: set[str] = set()
    for name, selector in names:
        assert name in METRICS, f"{name}: no such metric"
        labels |= METRICS[name]
        for label in re.findall(r"(\w+)\s*[=!]", selector):
            assert label in METRICS[name], f"{name} has no label {label}"
    for grouped in re.findall(r"by \(([^)]*)\)", query):
        assert {label.strip() for label in grouped.split(",")} <= labels | LABELS_OF_ALL


def test_legends_name_labels_that_are_left() -> None:
    for panel in PANELS:
        for target in panel["targets"]:
            labels = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            grouped = re.search(r"^(?:sum|max|histogram_quantile).*?by \(([^)]*)\)", target["expr"])
            if grouped:
                assert labels <= {label.strip() for label in grouped[1].split(",")}
            elif target["expr"].startswith(("sum(", "histogram_quantile(")):
                assert not labels
            else:
                name = re.match(r"outrider_\w+", target["expr"])
                assert name is not None
                assert labels <= METRICS[name[0]] | LABELS_OF_ALL


def test_prometheus_looks_at_every_role_where_it_shows_its_metrics() -> None:
    ports: dict[str, type[settings.Common]] = {
        "gateway": settings.GatewaySettings,
        "scheduler": settings.SchedulerSettings,
        "verifier": settings.VerifierSettings,
        "draft-worker": settings.DraftWorkerSettings,
    }
    looked: dict[str, int] = {}
    for job in yaml.safe_load((FOLDER / "prometheus.yml").read_text())["scrape_configs"]:
        for found in job["dns_sd_configs"]:
            assert set(found["names"]) <= set(COMPOSE["services"])
            looked[job["job_name"]] = found["port"]
    assert looked == {role: cls.model_fields["health_port"].default for role, cls in ports.items()}


def test_compose_mounts_what_there_is() -> None:
    for service in ("prometheus", "grafana"):
        for volume in COMPOSE["services"][service]["volumes"]:
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (ROOT / source).exists()
            else:
                assert source in COMPOSE["volumes"]
    home = COMPOSE["services"]["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    provider = yaml.safe_load((FOLDER / "grafana/provisioning/dashboards/outrider.yml").read_text())
    assert home.startswith(provider["providers"][0]["options"]["path"])
    source = yaml.safe_load((FOLDER / "grafana/provisioning/datasources/prometheus.yml").read_text())
    uid, url = source["datasources"][0]["uid"], source["datasources"][0]["url"]
    assert url == "http://prometheus:9090"
    assert {target["datasource"]["uid"] for panel in PANELS for target in panel["targets"]} == {uid}
