"""The Kubernetes manifests are valid, give few rights, and admit through the network exactly who needs it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.infra.manifests import CONTAINERS, DOCUMENTS, INFRA, PODS, RAY, ROOT, SECRET, fill_templates

CRDS = ROOT.parent / "shared" / "schemas" / "kuberay"
KUBERNETES = "1.37"


def test_every_document_is_read() -> None:
    kinds = sorted(document["kind"] for document in DOCUMENTS.values())
    assert " ".join(kinds) == (
        "CronJob Deployment NetworkPolicy NetworkPolicy NetworkPolicy "
        "PersistentVolumeClaim RayCluster RayCronJob RayJob Service"
    )
    assert len(CONTAINERS) == 6


@pytest.mark.parametrize("name", sorted(DOCUMENTS.keys() - RAY.keys()))
def test_kubernetes_accepts_the_manifest(name: str) -> None:
    kubernetes_validate.validate(DOCUMENTS[name], KUBERNETES, strict=True)


@pytest.mark.parametrize("index", range(len(PODS)))
def test_kubernetes_accepts_the_pods_inside(index: int) -> None:
    template = {
        "apiVersion": "v1",
        "kind": "PodTemplate",
        "metadata": {"name": "x"},
        "template": {"spec": PODS[index][1]},
    }
    kubernetes_validate.validate(template, KUBERNETES, strict=True)


@pytest.mark.parametrize("name", sorted(RAY))
def test_kuberay_accepts_the_manifest(name: str) -> None:
    """KubeRay's own definitions are the reference; unknown fields are rejected as in the API server's strict mode."""
    file = CRDS / f"ray.io_{RAY[name]['kind'].lower()}s.yaml"
    if not file.is_file():
        pytest.skip("KubeRay's definitions are not available")
    from jsonschema import Draft7Validator

    versions = yaml.load(file.read_text(), yaml.CSafeLoader)["spec"]["versions"]
    schema = next(v["schema"]["openAPIV3Schema"] for v in versions if v["name"] == "v1")
    assert [error.message for error in Draft7Validator(schema).iter_errors(RAY[name])] == []
    assert list(find_unknown_fields(schema, RAY[name], "")) == []


@pytest.mark.parametrize("name", ["kuberay/rayjob.yaml:RayJob", "kuberay/raycronjob.yaml:RayCronJob"])
def test_kuberay_submits_the_whole_entrypoint(name: str) -> None:
    """KubeRay writes the entrypoint without quotes into a command of the submitter's shell."""
    spec = RAY[name]["spec"]
    entrypoint = spec.get("jobTemplate", spec)["entrypoint"]
    script = f'PATH=; ray() {{ printf "%s\\n" "${{@:4}}"; }}; if true ; then ray job submit -- {entrypoint} ; fi'
    done = subprocess.run(["bash", "-ec", script], capture_output=True, text=True, check=False)
    # Ray joins the words without further quotes.
    assert (" ".join(done.stdout.splitlines()), done.stderr) == (entrypoint, "")


def find_unknown_fields(schema: dict[str, Any], value: Any, path: str) -> Iterator[str]:
    """Yield the paths of fields that the schema does not have."""
    if isinstance(value, dict) and "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        for key, inner in value.items():
            if key in schema["properties"]:
                yield from find_unknown_fields(schema["properties"][key], inner, f"{path}.{key}")
            elif path or key not in ("apiVersion", "kind", "metadata"):
                yield f"{path}.{key}"
    elif isinstance(value, dict) and isinstance(schema.get("additionalProperties"), dict):
        for key, inner in value.items():
            yield from find_unknown_fields(schema["additionalProperties"], inner, f"{path}.{key}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from find_unknown_fields(schema.get("items", {}), inner, f"{path}[{index}]")


def test_a_misspelt_field_is_found() -> None:
    schema = {"properties": {"spec": {"properties": {"groups": {"items": {"properties": {"name": {}}}}}}}}
    assert list(find_unknown_fields(schema, {"spec": {"groups": [{"name": 1, "nam": 2}]}}, "")) == [
        ".spec.groups[0].nam"
    ]


def test_the_cluster_scales_its_gpus_and_requires_a_token() -> None:
    spec = RAY["kuberay/raycluster.yaml:RayCluster"]["spec"]
    (group,) = spec["workerGroupSpecs"]
    assert spec["enableInTreeAutoscaling"]
    assert 1 <= group["minReplicas"] <= group["replicas"] < group["maxReplicas"]
    assert group["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert spec["authOptions"] == {"mode": "token", "secretName": "trainyard-ray"}
    environment = spec["headGroupSpec"]["template"]["spec"]["containers"][0]["env"]
    assert {"name": "TRAINYARD_WORKERS", "value": f"{group['minReplicas']}:{group['maxReplicas']}"} in environment
    for name in ("rayjob.yaml:RayJob", "raycronjob.yaml:RayCronJob"):
        job = RAY[f"kuberay/{name}"]["spec"]
        assert job.get("jobTemplate", job)["clusterSelector"] == {"ray.io/cluster": "trainyard"}


@pytest.mark.parametrize(("name", "pod"), PODS, ids=lambda value: value if isinstance(value, str) else "")
def test_pods_have_few_rights_and_limits(name: str, pod: dict[str, Any]) -> None:
    """Pods run without root or new rights, with limits on memory and processors, and refer to secrets."""
    assert pod["securityContext"]["runAsNonRoot"] is True
    for container in pod["containers"]:
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert {"cpu", "memory"} <= container["resources"]["limits"].keys() & container["resources"]["requests"].keys()
        for entry in container.get("env", []):
            assert not (SECRET.search(entry["name"]) and "value" in entry), f"{entry['name']} is in the manifest"


def test_the_tracker_has_probes_and_a_network_policy() -> None:
    container = DOCUMENTS["mlflow/mlflow.yaml:Deployment"]["spec"]["template"]["spec"]["containers"][0]
    assert {container[kind]["httpGet"]["path"] for kind in ("startupProbe", "readinessProbe", "livenessProbe")} == {
        "/health"
    }


POLICIES = [name for name in DOCUMENTS if name.endswith(":NetworkPolicy")]


@pytest.mark.parametrize("name", POLICIES)
def test_network_policies_name_every_peer(name: str) -> None:
    """A peer is pods of ours, pods or everything of a namespace with a name or label, or addresses without metadata."""
    spec = DOCUMENTS[name]["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    peers = [peer for rule in spec["ingress"] for peer in rule["from"]]
    peers += [peer for rule in spec["egress"] for peer in rule["to"]]
    for peer in peers:
        if "ipBlock" in peer:
            assert "169.254.0.0/16" in peer["ipBlock"]["except"]
        else:
            assert all(selector["matchLabels"] for selector in peer.values()), "an empty selector admits everything"
    outward = [rule for rule in spec["egress"] if any("ipBlock" in peer for peer in rule["to"])]
    assert all(rule["ports"] for rule in outward)


def test_only_the_head_talks_to_kubernetes() -> None:
    spec = RAY["kuberay/raycluster.yaml:RayCluster"]["spec"]
    assert all(g["template"]["spec"]["automountServiceAccountToken"] is False for g in spec["workerGroupSpecs"])
    assert spec["enableInTreeAutoscaling"], "the head asks for pods, with the token that KubeRay gives it"
    for name in POLICIES:
        ports = {p["port"] for rule in DOCUMENTS[name]["spec"]["egress"] for p in rule.get("ports", [])}
        is_head = DOCUMENTS[name]["spec"]["podSelector"]["matchLabels"].get("ray.io/node-type") == "head"
        assert (6443 in ports) == is_head


def test_the_operators_namespace_is_documented() -> None:
    peers = admitted_peers("kuberay/networkpolicy-head.yaml:NetworkPolicy")
    (labels,) = [peer["namespaceSelector"]["matchLabels"] for peer in peers if "namespaceSelector" in peer]
    text = " ".join((ROOT / "docs" / "operations.md").read_text().split())
    assert f"--namespace {labels['kubernetes.io/metadata.name']}" in text


def admitted_peers(policy: str) -> list[dict[str, Any]]:
    """Return the peers that a policy admits, each a selector of pods, of namespaces or of both."""
    return [peer for rule in DOCUMENTS[policy]["spec"]["ingress"] for peer in rule["from"]]


def test_the_network_policy_admits_submitters() -> None:
    """Labels of this project select them: KubeRay's labels on a submitter's pod differ from release to release."""
    selectors = [
        peer["podSelector"]["matchLabels"] for peer in admitted_peers("kuberay/networkpolicy-head.yaml:NetworkPolicy")
    ]
    assert not any(key.startswith("ray.io/originated") for labels in selectors for key in labels)
    cron = DOCUMENTS["kuberay/cronjob.yaml:CronJob"]["spec"]["jobTemplate"]["spec"]["template"]
    job = RAY["kuberay/rayjob.yaml:RayJob"]["spec"]["submitterPodTemplate"]
    scheduled = RAY["kuberay/raycronjob.yaml:RayCronJob"]["spec"]["jobTemplate"]["submitterPodTemplate"]
    for template in (cron, job, scheduled):
        labels_of_pod = template["metadata"]["labels"].items()
        assert any(labels.items() <= labels_of_pod for labels in selectors)
        assert template["spec"]["restartPolicy"] == "Never"
    image = yaml.safe_load(fill_templates("kuberay", image="there/x:1")["kuberay/raycronjob.yaml"])["spec"][
        "jobTemplate"
    ]
    assert image["submitterPodTemplate"]["spec"]["containers"][0]["image"] == "there/x:1"


def test_the_network_policy_admits_an_ingress_by_the_documented_label() -> None:
    peers = admitted_peers("mlflow/mlflow.yaml:NetworkPolicy")
    (labels,) = [peer["namespaceSelector"]["matchLabels"] for peer in peers if "namespaceSelector" in peer]
    ((key, value),) = labels.items()
    assert f"{key}={value}" in (ROOT / "docs" / "operations.md").read_text()


def test_the_required_release_of_kuberay_is_documented() -> None:
    """The manifests use `authOptions.secretName`, which KubeRay has since 1.6."""
    for file in (INFRA / "kuberay" / "raycluster.yaml", ROOT / "docs" / "operations.md"):
        assert re.search(r"KubeRay(?: >=|'s operator \()\s?1\.6", file.read_text()), file
