"""Kubernetes manifests: names meet, nothing is open that need not be, all can drain."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from consistent_gen import __version__
from services.web.security import OPEN_PATHS
from tests.deploy.manifests import (
    BASE,
    DEPLOY,
    TEXTS,
    compose,
    containers,
    documents,
    kubernetes,
    metric_names,
    of_kind,
    pods,
)

WRITABLE = {"/tmp", "/data"}
OUR_IMAGES = {
    "consistent-gen",
    f"consistent-gen:{__version__}",
    f"consistent-gen:{__version__}-cuda",
}


def test_all_manifests_are_listed_and_have_names() -> None:
    files = {p.name for p in BASE.glob("*.yaml")} - {"kustomization.yaml"}
    assert set(documents(BASE / "kustomization.yaml")[0]["resources"]) == files
    for document in kubernetes():
        assert document["apiVersion"] and document["kind"] and document["metadata"]["name"]
    names = [(d["kind"], d["metadata"]["name"]) for d in kubernetes()]
    assert len(names) == len(set(names))


def matches(selector: dict[str, str], labels: dict[str, str]) -> bool:
    return bool(selector) and selector.items() <= labels.items()


def test_selectors_match_the_pods_they_mean() -> None:
    labels = {name: pod["metadata"]["labels"] for name, pod in pods().items()}
    for name, deployment in of_kind("Deployment").items():
        selector = deployment["spec"]["selector"]["matchLabels"]
        assert [pod for pod, has in labels.items() if matches(selector, has)] == [name]
    for kind in ("PodDisruptionBudget", "NetworkPolicy"):
        for name, document in of_kind(kind).items():
            selector = document["spec"].get("selector") or document["spec"]["podSelector"]
            wanted = selector.get("matchLabels", {})
            chosen = [pod for pod, has in labels.items() if matches(wanted, has)]
            assert chosen == [name] or name in ("nobody", "names")
    for pod in pods().values():
        for spread in pod["spec"].get("topologySpreadConstraints", ()):
            assert matches(spread["labelSelector"]["matchLabels"], pod["metadata"]["labels"])


def test_services_lead_to_ports_of_one_deployment() -> None:
    for service in of_kind("Service").values():
        chosen = [
            pod
            for pod in pods().values()
            if matches(service["spec"]["selector"], pod["metadata"]["labels"])
        ]
        assert len(chosen) == 1
        ports = {p["name"] for c in chosen[0]["spec"]["containers"] for p in c.get("ports", ())}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    assert of_kind("Service")["public"]["spec"]["ports"][0]["targetPort"] == "public"


def test_whoever_listens_is_probed_at_a_path_that_needs_no_key() -> None:
    for name, container, _ in containers():
        ports = {port["name"] for port in container.get("ports", ())}
        probes = {kind: container.get(f"{kind}Probe") for kind in ("liveness", "readiness")}
        assert all(probes.values()) == bool(ports), name
        for probe in [*filter(None, probes.values()), container.get("startupProbe")]:
            if probe is None:
                continue
            check = probe.get("httpGet") or probe["tcpSocket"]
            assert check["port"] in ports, name
            assert check.get("path", "/livez").partition("?")[0] in OPEN_PATHS, name
        if "httpGet" in (probes["liveness"] or {}):
            paths = {probe["httpGet"]["path"] for probe in probes.values() if probe}
            assert len(paths) == 2, f"{name}: a pod may be alive and not ready"


def test_volumes_are_declared_mounted_and_known() -> None:
    generated = {g["name"] for g in documents(BASE / "kustomization.yaml")[0]["configMapGenerator"]}
    secrets = {s["metadata"]["name"] for s in documents(DEPLOY / "kubernetes/secret.example.yaml")}
    claims = set(of_kind("PersistentVolumeClaim"))
    for pod in pods().values():
        volumes = {v["name"]: v for v in pod["spec"]["volumes"]}
        mounted = {m["name"] for c in pod["spec"]["containers"] for m in c["volumeMounts"]}
        assert mounted == set(volumes)
        for volume in volumes.values():
            if "configMap" in volume:
                assert volume["configMap"]["name"] in generated
            elif "secret" in volume:
                assert volume["secret"]["secretName"] in secrets
                assert volume["secret"]["defaultMode"] == 0o440
            elif "persistentVolumeClaim" in volume:
                assert volume["persistentVolumeClaim"]["claimName"] in claims
            else:
                assert volume["emptyDir"]["sizeLimit"]


def test_pods_can_do_nothing_that_they_need_not() -> None:
    for name, container, pod in containers():
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] >= 10000
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"] is True, name
        assert context["allowPrivilegeEscalation"] is False, name
        assert context["capabilities"] == {"drop": ["ALL"]}, name
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys(), name
        assert {"cpu", "memory"} <= container["resources"]["limits"].keys(), name
        writable = {
            m["mountPath"] for m in container["volumeMounts"] if not m.get("readOnly", False)
        }
        assert writable <= WRITABLE, name


def test_secrets_come_from_secrets() -> None:
    example = documents(DEPLOY / "kubernetes/secret.example.yaml")
    keys = {(s["metadata"]["name"], key) for s in example for key in s["stringData"]}
    assert {value for s in example for value in s["stringData"].values()} == {"REPLACE_ME"}
    for name, container, _ in containers():
        for variable in container.get("env", ()):
            is_secret = re.search(r"TOKEN|_KEY$|PASSWORD", variable["name"]) is not None
            assert is_secret == ("valueFrom" in variable), f"{name} {variable['name']}"
            if is_secret:
                source = variable["valueFrom"]["secretKeyRef"]
                assert (source["name"], source["key"]) in keys


def test_no_file_holds_a_key() -> None:
    for file in TEXTS:
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"cg-[a-z0-9_.]+-[A-Za-z0-9_-]{30,}", text), file
        assert "BEGIN " not in text and "password" not in text.lower(), file


def test_the_gateway_is_alone_and_everyone_has_time_to_drain(tmp_path: Path) -> None:
    gateway = of_kind("Deployment")["gateway"]["spec"]
    assert gateway["replicas"] == 1 and gateway["strategy"] == {"type": "Recreate"}
    for name in ("gateway", "generation"):
        pod = pods()[name]["spec"]
        pauses = [
            int(c["lifecycle"]["preStop"]["exec"]["command"][1])
            for c in pod["containers"]
            if "lifecycle" in c
        ]
        file = "server" if name == "gateway" else "worker"
        drain_s = documents(BASE / f"settings/{file}.yaml")[0]["server"]["drain_s"]
        assert pod["terminationGracePeriodSeconds"] >= drain_s + max(pauses, default=0) + 10
    assert pods()["gateway"]["spec"]["containers"][0]["lifecycle"]["preStop"]


def test_the_scaler_scales_workers_by_a_metric_that_exists(tmp_path: Path) -> None:
    scaler = of_kind("HorizontalPodAutoscaler")["generation"]["spec"]
    assert scaler["scaleTargetRef"]["name"] in of_kind("Deployment")
    assert 1 <= scaler["minReplicas"] < scaler["maxReplicas"]
    first, second = (metric["external"] for metric in scaler["metrics"])
    # A length is shared out among the workers, an age is not.
    assert first["target"]["type"] == "AverageValue" and second["target"]["type"] == "Value"
    assert second["metric"]["name"] in metric_names(tmp_path)


def test_only_workers_and_prometheus_reach_the_gateways_own_port() -> None:
    policies = {name: d["spec"] for name, d in of_kind("NetworkPolicy").items()}
    assert policies["nobody"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    allowed = []
    for rule in policies["gateway"]["ingress"]:
        ports = [port["port"] for port in rule["ports"]]
        if "from" not in rule:
            assert ports == [8080]
            continue
        assert ports == [8000]
        for peer in rule["from"]:
            labels = peer["podSelector"]["matchLabels"]
            allowed.append(
                labels.get("app.kubernetes.io/component", labels["app.kubernetes.io/name"])
            )
    assert sorted(allowed) == ["generation", "prometheus"]
    assert "ingress" not in policies["generation"]
    assert set(policies) == {"nobody", "names", *pods()}


def test_images_have_versions_and_ours_is_this_one() -> None:
    kustomization = documents(BASE / "kustomization.yaml")[0]
    assert [i["newTag"] for i in kustomization["images"]] == [__version__]
    images = [container["image"] for _, container, _ in containers()]
    images += [service["image"] for service in compose()["services"].values()]
    for image in images:
        if not image.startswith("consistent-gen"):
            assert re.search(r":v?\d+\.\d+\.\d+[\w.-]*(@sha256:[0-9a-f]{64})?$", image), image
        else:
            assert image in OUR_IMAGES
    assert f"consistent-gen:{__version__}-cuda" in (
        DEPLOY / "kubernetes/gpu/kustomization.yaml"
    ).read_text(encoding="utf-8")


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl")
@pytest.mark.parametrize("overlay", ["base", "gpu"])
def test_kustomize_builds(overlay: str) -> None:
    done = subprocess.run(
        ["kubectl", "kustomize", str(DEPLOY / "kubernetes" / overlay)],
        capture_output=True,
        text=True,
        check=True,
    )
    built = list(yaml.safe_load_all(done.stdout))
    assert all(d["metadata"].get("namespace", "consistent-gen") == "consistent-gen" for d in built)
    workers = next(
        d for d in built if d["kind"] == "Deployment" and d["metadata"]["name"] == "generation"
    )
    (container,) = workers["spec"]["template"]["spec"]["containers"]
    assert ("nvidia.com/gpu" in container["resources"]["limits"]) == (overlay == "gpu")
    assert container["image"].endswith("-cuda") == (overlay == "gpu")
    settings = {d["metadata"]["name"]: d["data"] for d in built if d["kind"] == "ConfigMap"}
    mounted = {
        v["configMap"]["name"]
        for d in built
        if d["kind"] == "Deployment"
        for v in d["spec"]["template"]["spec"]["volumes"]
        if "configMap" in v
    }
    assert mounted == set(settings)
