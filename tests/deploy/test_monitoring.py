"""Prometheus asks where something answers; alerts are about what exists."""

from __future__ import annotations

import re
from pathlib import Path

from tests.deploy.manifests import DEPLOY, ROOT, compose, documents, metric_names


def test_prometheus_asks_where_something_answers() -> None:
    file = documents(DEPLOY / "prometheus.yml")[0]
    assert [(DEPLOY / name).is_file() for name in file["rule_files"]] == [True]
    services = compose()["services"]
    for job in file["scrape_configs"]:
        for target in job["static_configs"][0]["targets"]:
            name, port = target.split(":")
            assert port in services[name]["command"]


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
