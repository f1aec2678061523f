"""Prometheus asks where something answers; alerts are about what exists."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.manifests import DEPLOY, ROOT, compose, documents, metric_names, of_kind


def test_prometheus_asks_where_something_answers() -> None:
    file = documents(DEPLOY / "prometheus.yml")[0]
    assert [(DEPLOY / name).is_file() for name in file["rule_files"]] == [True]
    services = compose()["services"]
    for job in file["scrape_configs"]:
        for target in job["static_configs"][0]["targets"]:
            name, port = target.split(":")
            assert port in services[name]["command"]
    (alerting,) = file["alerting"]["alertmanagers"]
    assert alerting["static_configs"] == [{"targets": ["alertmanager:9093"]}]
    assert "alertmanager" in services


def test_alerts_are_about_metrics_that_exist_and_say_what_to_do(tmp_path: Path) -> None:
    known = metric_names(tmp_path)
    rules = [r for g in documents(DEPLOY / "alerts.yml")[0]["groups"] for r in g["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules) >= 6
    for rule in rules:
        used = set(re.findall(r"consistent_gen_\w+", rule["expr"]))
        assert used <= known, f"{rule['alert']}: {used - known}"
        assert rule["expr"].count("(") == rule["expr"].count(")")
        assert rule["labels"]["severity"] in ("page", "warn")
        assert rule["annotations"]["summary"] and rule["annotations"]["action"]


def test_an_alert_about_age_uses_the_label_values_of_the_code(tmp_path: Path) -> None:
    text = (DEPLOY / "alerts.yml").read_text(encoding="utf-8")
    assert 'state="ready"' in text
    sources = [p.read_text(encoding="utf-8") for p in (ROOT / "services").rglob("*.py")]
    for outcome in re.findall(r'outcome="(\w+)"', text):
        assert any(f'"{outcome}"' in source for source in sources), outcome


MONITORING = DEPLOY / "kubernetes" / "monitoring"


def monitoring() -> dict[str, dict[str, Any]]:
    listed = documents(MONITORING / "kustomization.yaml")[0]["resources"]
    assert {*listed, "kustomization.yaml", "adapter.yaml"} == {p.name for p in MONITORING.iterdir()}
    found = documents(*(MONITORING / name for name in listed))
    return {f"{d['kind']}/{d['metadata']['name']}": d for d in found}


def test_the_operators_rules_are_the_same_and_its_monitors_find_the_services() -> None:
    objects = monitoring()
    rules = objects["PrometheusRule/consistent-gen"]
    assert rules["apiVersion"] == "monitoring.coreos.com/v1"
    assert rules["spec"] == documents(DEPLOY / "alerts.yml")[0], "copy alerts.yml below `spec`"
    jobs = {job["job_name"] for job in documents(DEPLOY / "prometheus.yml")[0]["scrape_configs"]}
    for name in ("gateway", "scoring"):
        monitor = objects[f"ServiceMonitor/{name}"]["spec"]
        wanted = monitor["selector"]["matchLabels"].items()
        services = of_kind("Service").values()
        chosen = [s for s in services if wanted <= s["metadata"].get("labels", {}).items()]
        assert [service["metadata"]["name"] for service in chosen] == [name]
        (endpoint,) = monitor["endpoints"]
        assert endpoint["port"] in {port["name"] for port in chosen[0]["spec"]["ports"]}
        # Rules name jobs, and the operator would name them after services.
        jobs.remove(endpoint["relabelings"][0]["replacement"])
    assert jobs == set()


def test_every_severity_has_a_route_in_both_files() -> None:
    rules = [r for g in documents(DEPLOY / "alerts.yml")[0]["groups"] for r in g["rules"]]
    severities = {rule["labels"]["severity"] for rule in rules}
    here = documents(DEPLOY / "alertmanager.yml")[0]
    operator = monitoring()["AlertmanagerConfig/consistent-gen"]["spec"]
    assert {r["name"] for r in here["receivers"]} == severities
    assert {r["name"] for r in operator["receivers"]} == severities
    page: Any
    for route, page in (
        (here["route"], 'severity="page"'),
        (operator["route"], {"name": "severity", "matchType": "=", "value": "page"}),
    ):
        assert route["receiver"] == "warn"
        assert [(r["receiver"], r["matchers"]) for r in route["routes"]] == [("page", [page])]
    told = f"{here['inhibit_rules']} {operator['inhibitRules']}"
    inhibited = set(re.findall(r"[A-Z][a-z]+(?:[A-Z][a-z]+)+", told))
    assert inhibited == {"GatewayDown", "MetricsAreMissing", "NoWorkerReady"}
    assert inhibited <= {rule["alert"] for rule in rules}
    secrets = compose()["services"]["alertmanager"]["secrets"]
    files = {w["url_file"] for r in here["receivers"] for w in r["webhook_configs"]}
    assert files == {f"/run/secrets/{name}" for name in secrets}
    assert set(secrets) <= compose()["secrets"].keys()


def test_the_adapter_gives_the_scaler_its_metrics(tmp_path: Path) -> None:
    rules = documents(MONITORING / "adapter.yaml")[0]["externalRules"]
    scaler = of_kind("HorizontalPodAutoscaler")["generation"]["spec"]
    wanted = {metric["external"]["metric"]["name"] for metric in scaler["metrics"]}
    assert {rule["name"]["as"] for rule in rules} == wanted
    for rule in rules:
        assert rule["seriesQuery"] in metric_names(tmp_path)
        assert rule["seriesQuery"] in rule["metricsQuery"]


# What time series do to alerts, as `promtool test rules` of a real Prometheus is told.
_SERIES = {
    'up{job="consistent-gen"}': "1x60",
    "consistent_gen_queue_oldest_seconds": "1x60",
    'consistent_gen_workers{state="ready"}': "1x60",
    'consistent_gen_free_bytes{place="data"}': "5e8x60",
    'consistent_gen_free_bytes{place="tmp"}': "1e8x60",
    "consistent_gen_storage_bytes": "95x60",
    "consistent_gen_storage_quota_bytes": "100x60",
    "consistent_gen_wal_bytes": "3e8x60",
    'consistent_gen_requests_total{status="200",route="/v1/jobs"}': "0+90x60",
    'consistent_gen_requests_total{status="503",route="/v1/jobs"}': "0+9x60",
    'consistent_gen_requests_total{status="507",route="/v1/jobs"}': "0+9x60",
    'consistent_gen_requests_total{status="503",route="/readyz"}': "0+90x60",
}
_RAISED: dict[str, list[dict[str, str]]] = {
    "NotServed": [{"severity": "warn", "status": "503"}, {"severity": "warn", "status": "507"}],
    "StorageAlmostFull": [{"severity": "warn"}],
    "DiskAlmostFull": [{"severity": "page", "place": "data"}],
    "TemporaryFolderAlmostFull": [{"severity": "warn", "place": "tmp"}],
    "WriteAheadLogGrows": [{"severity": "warn"}],
    "MetricsAreMissing": [],
    "GatewayDown": [],
}
_MISSING = {
    "MetricsAreMissing": [
        {"severity": "page", "state": "ready"}, {"severity": "page", "place": "data"},
        {"severity": "page"},
    ],
    "NotServed": [],
}  # fmt: skip


def _case(series: dict[str, str], raised: dict[str, list[dict[str, str]]]) -> dict[str, Any]:
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [
            {"eval_time": "40m", "alertname": name, "exp_alerts": [{"exp_labels": x} for x in told]}
            for name, told in raised.items()
        ],
    }


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool (apt: prometheus)")
def test_prometheus_itself_reads_the_rules_and_raises_the_alerts(tmp_path: Path) -> None:
    alerts = documents(DEPLOY / "alerts.yml")[0]
    for rule in (rule for group in alerts["groups"] for rule in group["rules"]):
        rule["annotations"] = {}  # only when is looked at
    (tmp_path / "alerts.yml").write_text(yaml.safe_dump(alerts))
    one = {"consistent_gen_queue_oldest_seconds": "1x60"}
    tests = {"rule_files": ["alerts.yml"], "evaluation_interval": "1m",
             "tests": [_case(_SERIES, _RAISED), _case(one, _MISSING)]}  # fmt: skip
    (tmp_path / "tests.yml").write_text(yaml.safe_dump(tests))
    for command in (
        ["promtool", "check", "rules", str(DEPLOY / "alerts.yml")],
        ["promtool", "check", "config", str(DEPLOY / "prometheus.yml")],
        ["promtool", "test", "rules", str(tmp_path / "tests.yml")],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
