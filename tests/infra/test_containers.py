"""The compose file, the image and its settings are valid and match the repository."""

from __future__ import annotations

import re
import subprocess
import tomllib

import pytest

from pipelines.commands import schedule
from tests.infra.manifests import COMPOSE, CONTAINERS, INFRA, RAY, ROOT, SECRET
from tests.workspace import BIN


def test_the_compose_file_is_valid() -> None:
    checker = [str(BIN / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec", str(INFRA / "compose.yaml")]
    done = subprocess.run(checker, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_services_are_healthy_limited_and_on_loopback() -> None:
    services = COMPOSE["services"]
    assert services.keys() == {"postgres", "s3", "mlflow", "ray-head", "ray-worker", "retrain"}
    for name, service in services.items():
        assert {"cpus", "memory"} <= service["deploy"]["resources"]["limits"].keys(), name
        assert name == "retrain" or service["healthcheck"]["test"], name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        for dependency in service.get("depends_on", {}):
            assert dependency in services, name
        for variable, value in service["environment"].items():
            if SECRET.search(variable):
                assert re.fullmatch(r"\$\{\w+:\?.*\}", value), (
                    f"{name}: {variable} has its value in the file, or may be empty"
                )


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_services_have_no_rights_and_write_nothing_but_data(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert service["read_only"] is True
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.get("privileged")
    assert not any("docker.sock" in volume for volume in service.get("volumes", []))


def test_who_only_submits_holds_the_token_alone() -> None:
    submitter = COMPOSE["services"]["retrain"]
    assert {variable for variable in submitter["environment"] if SECRET.search(variable)} == {"RAY_AUTH_TOKEN"}
    assert "volumes" not in submitter


def test_networks_part_who_has_nothing_to_say_to_each_other() -> None:
    members: dict[str, set[str]] = {name: set() for name in COMPOSE["networks"]}
    for name, service in COMPOSE["services"].items():
        for network in service["networks"]:
            members[network].add(name)
    assert members == {
        "database": {"postgres", "mlflow"},
        "services": {"s3", "mlflow", "ray-head", "ray-worker"},
        "jobs": {"ray-head", "retrain"},
    }
    assert [name for name, network in COMPOSE["networks"].items() if network.get("internal")] == ["database", "jobs"]


def test_jobs_cannot_read_the_passwords_file() -> None:
    """The services that run jobs mount the checkout, which contains infra/.env."""
    mounting = [name for name, service in COMPOSE["services"].items() if "..:/yard" in service.get("volumes", [])]
    assert set(mounting) == {"ray-head", "ray-worker"}
    for name in mounting:
        assert COMPOSE["services"][name]["volumes"].index("/dev/null:/yard/infra/.env:ro") > 0


def test_compose_requires_what_the_example_lists() -> None:
    required = set(re.findall(r"\$\{(\w+):\?", (INFRA / "compose.yaml").read_text()))
    example = dict(re.findall(r"^(\w+)=(.*)$", (INFRA / "env.example").read_text(), re.MULTILINE))
    assert required <= example.keys()
    assert [
        name for name, value in example.items() if value and name.endswith(("PASSWORD", "SECRET_ACCESS_KEY", "TOKEN"))
    ] == []
    ignored = subprocess.run(["git", "check-ignore", "infra/.env"], cwd=ROOT, capture_output=True, check=False)
    assert ignored.returncode == 0, "infra/.env must never be committed"


def test_the_linter_accepts_the_dockerfile() -> None:
    linter = [str(BIN / "hadolint"), "--config", str(INFRA / "hadolint.yaml"), "--failure-threshold=style"]
    done = subprocess.run([*linter, str(INFRA / "Dockerfile")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    ignored = re.findall(r"^\s+- DL\d+.*$", (INFRA / "hadolint.yaml").read_text(), re.MULTILINE)
    assert ignored
    assert all("  # " in line for line in ignored), "every ignored rule has its reason"


def test_the_image_is_built_from_this_repository() -> None:
    text = (INFRA / "Dockerfile").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    copied = [name for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE) for name in line.split()[:-1]]
    assert len(copied) > 4
    assert [name for name in copied if not (ROOT / name).exists()] == []
    included = (INFRA / "Dockerfile.dockerignore").read_text().splitlines()
    assert all(f"!{name.split('/')[0]}" in included for name in copied)
    extra = next(iter(project["optional-dependencies"]))
    assert re.search(rf"--extra {extra} .*--output-file infra/image.lock", (ROOT / "Makefile").read_text())
    assert "infra/image.lock" in copied
    assert re.search(r"^USER 1000", text, re.MULTILINE)
    images = {container["image"] for _, container in CONTAINERS}
    assert {image.removesuffix("-cuda") for image in images} == {f"trainyard:{project['version']}", schedule.IMAGE}
    assert COMPOSE["services"]["mlflow"]["image"] == f"trainyard:${{TRAINYARD_VERSION:-{project['version']}}}"
    locked = dict(re.findall(r"^([\w-]+)==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    assert RAY["kuberay/raycluster.yaml:RayCluster"]["spec"]["rayVersion"] == locked["ray"]


def test_every_build_on_the_page_names_the_base() -> None:
    """The Dockerfile has no default for it: what is built is what somebody has looked at."""
    builds = [
        line
        for file in (ROOT / "docs" / "operations.md", INFRA / "Dockerfile")
        for line in file.read_text().splitlines()
        if "docker build " in line
    ]
    assert len(builds) == 3
    assert all("--build-arg BASE" in line or '--build-arg "$(grep ^BASE= infra/.env)"' in line for line in builds)


def test_no_file_names_a_package_index() -> None:
    texts = [file.read_text() for file in INFRA.rglob("*") if file.is_file() and file.name != ".env"]
    assert len(texts) > 10
    assert [
        text for text in texts if re.search(r"index-url|https?://[^\s\"']*(pypi|pytorch\.org/whl|/simple)", text)
    ] == []
