"""What lies in infra/ and what `trainyard schedule` prints: valid for those who read it, and true to the product."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from components.errors import Refusal
from pipelines import door
from pipelines.commands import crontime, parser, schedule
from tests.workspace import BIN

ROOT = Path(__file__).parent.parent
INFRA = ROOT / "infra"
CRDS = ROOT.parent / "shared" / "schemas" / "kuberay"
KUBERNETES = "1.37"
TEMPLATES = {name for places in schedule.PLACES.values() for name in places}
MANIFESTS = sorted(
    file for folder in ("kuberay", "mlflow") for file in (INFRA / folder).glob("*.yaml")
)  # as they are, or filled in
SECRET = re.compile(r"PASSWORD|SECRET|TOKEN$|ACCESS_KEY")


def filled(to: str, at: str = "30 2 * * 1-5", **options: str) -> dict[str, str]:
    """Name of the template -> its text, for an example."""
    values = {
        "folder": "/yard",
        "python": "python",
        "user": None,
        "address": None,
        "image": "trainyard:0.1.0",
    } | options
    job = schedule.Job(crontime.parse_times(at), **values)
    return dict(zip(schedule.PLACES[to], [text for _, text in schedule.render_files(to, job)], strict=True))


def documents() -> Iterator[tuple[str, dict[str, Any]]]:
    for file in MANIFESTS:
        name = f"{file.parent.name}/{file.name}"
        to = {"kuberay/raycronjob.yaml": "kuberay", "kuberay/cronjob.yaml": "kubernetes"}.get(name)
        text = filled(to)[name] if to else file.read_text()
        yield from ((f"{name}:{found['kind']}", found) for found in yaml.safe_load_all(text))


DOCUMENTS = dict(documents())
RAY = {name: found for name, found in DOCUMENTS.items() if found["apiVersion"] == "ray.io/v1"}
COMPOSE = yaml.safe_load((INFRA / "compose.yaml").read_text())


def pods(found: Any) -> Iterator[dict[str, Any]]:
    """Every pod's spec below a document."""
    if isinstance(found, dict):
        if "containers" in found:
            yield found
        for value in found.values():
            yield from pods(value)
    elif isinstance(found, list):
        for value in found:
            yield from pods(value)


PODS = [(name, pod) for name, found in DOCUMENTS.items() for pod in pods(found)]
CONTAINERS = [(name, container) for name, pod in PODS for container in pod["containers"]]


def test_all_of_it_is_looked_at() -> None:
    kinds = sorted(found["kind"] for found in DOCUMENTS.values())
    assert " ".join(kinds) == (
        "CronJob Deployment NetworkPolicy NetworkPolicy PersistentVolumeClaim RayCluster RayCronJob RayJob Service"
    )
    assert len(CONTAINERS) == 6


# ------------------------------------------------------------------------------------------------ Kubernetes


@pytest.mark.parametrize("name", sorted(DOCUMENTS.keys() - RAY.keys()))
def test_kubernetes_takes_it(name: str) -> None:
    kubernetes_validate.validate(DOCUMENTS[name], KUBERNETES, strict=True)


@pytest.mark.parametrize("index", range(len(PODS)))
def test_kubernetes_takes_the_pods_inside(index: int) -> None:
    template = {
        "apiVersion": "v1",
        "kind": "PodTemplate",
        "metadata": {"name": "x"},
        "template": {"spec": PODS[index][1]},
    }
    kubernetes_validate.validate(template, KUBERNETES, strict=True)


@pytest.mark.parametrize("name", sorted(RAY))
def test_kuberay_takes_it(name: str) -> None:
    """Against KubeRay's own definitions, unknown fields refused as the API server's strict mode does."""
    file = CRDS / f"ray.io_{RAY[name]['kind'].lower()}s.yaml"
    if not file.is_file():
        pytest.skip("KubeRay's definitions are not at hand")
    from jsonschema import Draft7Validator

    versions = yaml.load(file.read_text(), yaml.CSafeLoader)["spec"]["versions"]
    schema = next(v["schema"]["openAPIV3Schema"] for v in versions if v["name"] == "v1")
    assert [error.message for error in Draft7Validator(schema).iter_errors(RAY[name])] == []
    assert list(unknown(schema, RAY[name], "")) == []


def unknown(schema: dict[str, Any], value: Any, path: str) -> Iterator[str]:
    """Paths of fields that the schema does not have."""
    if isinstance(value, dict) and "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        for key, inner in value.items():
            if key in schema["properties"]:
                yield from unknown(schema["properties"][key], inner, f"{path}.{key}")
            elif path or key not in ("apiVersion", "kind", "metadata"):
                yield f"{path}.{key}"
    elif isinstance(value, dict) and isinstance(schema.get("additionalProperties"), dict):
        for key, inner in value.items():
            yield from unknown(schema["additionalProperties"], inner, f"{path}.{key}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from unknown(schema.get("items", {}), inner, f"{path}[{index}]")


def test_a_misspelt_field_would_be_found() -> None:
    schema = {"properties": {"spec": {"properties": {"groups": {"items": {"properties": {"name": {}}}}}}}}
    assert list(unknown(schema, {"spec": {"groups": [{"name": 1, "nam": 2}]}}, "")) == [".spec.groups[0].nam"]


def test_the_cluster_scales_its_gpus_and_asks_for_a_token() -> None:
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
def test_pods_are_modest(name: str, pod: dict[str, Any]) -> None:
    """No root, no new rights, limits on memory and processors, secrets by reference."""
    assert pod["securityContext"]["runAsNonRoot"] is True
    for container in pod["containers"]:
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert {"cpu", "memory"} <= container["resources"]["limits"].keys() & container["resources"]["requests"].keys()
        for entry in container.get("env", []):
            assert not (SECRET.search(entry["name"]) and "value" in entry), f"{entry['name']} is written down"


def test_the_tracker_is_probed_and_fenced() -> None:
    container = DOCUMENTS["mlflow/mlflow.yaml:Deployment"]["spec"]["template"]["spec"]["containers"][0]
    assert {container[kind]["httpGet"]["path"] for kind in ("startupProbe", "readinessProbe", "livenessProbe")} == {
        "/health"
    }
    for name in ("mlflow/mlflow.yaml:NetworkPolicy", "kuberay/networkpolicy.yaml:NetworkPolicy"):
        assert DOCUMENTS[name]["spec"]["policyTypes"] == ["Ingress", "Egress"]
        assert all(rule["from"] for rule in DOCUMENTS[name]["spec"]["ingress"]), "anybody may come in"


def admitted(policy: str) -> list[dict[str, Any]]:
    """Who may come in, each a selector of pods or of namespaces or both."""
    return [peer for rule in DOCUMENTS[policy]["spec"]["ingress"] for peer in rule["from"]]


def test_whoever_submits_is_let_in() -> None:
    """By labels of ours: those that KubeRay puts on a submitter's pod differ from release to release."""
    wanted = [peer["podSelector"]["matchLabels"] for peer in admitted("kuberay/networkpolicy.yaml:NetworkPolicy")]
    assert not any(key.startswith("ray.io/originated") for labels in wanted for key in labels)
    cron = DOCUMENTS["kuberay/cronjob.yaml:CronJob"]["spec"]["jobTemplate"]["spec"]["template"]
    job = RAY["kuberay/rayjob.yaml:RayJob"]["spec"]["submitterPodTemplate"]
    scheduled = RAY["kuberay/raycronjob.yaml:RayCronJob"]["spec"]["jobTemplate"]["submitterPodTemplate"]
    for template in (cron, job, scheduled):
        given = template["metadata"]["labels"].items()
        assert any(labels.items() <= given for labels in wanted)
        assert template["spec"]["restartPolicy"] == "Never"
    image = yaml.safe_load(filled("kuberay", image="there/x:1")["kuberay/raycronjob.yaml"])["spec"]["jobTemplate"]
    assert image["submitterPodTemplate"]["spec"]["containers"][0]["image"] == "there/x:1"


def test_an_ingress_is_let_in_by_the_label_that_is_documented() -> None:
    peers = admitted("mlflow/mlflow.yaml:NetworkPolicy")
    (labels,) = [peer["namespaceSelector"]["matchLabels"] for peer in peers if "namespaceSelector" in peer]
    ((key, value),) = labels.items()
    assert f"{key}={value}" in (ROOT / "docs" / "operations.md").read_text()


def test_the_release_of_kuberay_has_what_the_manifests_use() -> None:
    """`authOptions.secretName` came with 1.6."""
    for file in (INFRA / "kuberay" / "raycluster.yaml", ROOT / "docs" / "operations.md"):
        assert re.search(r"KubeRay(?: >=|'s operator \()\s?1\.6", file.read_text()), file


# ------------------------------------------------------------------------------------------------ containers


def test_compose_takes_it() -> None:
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
        assert service["networks"] == ["inside"], name
        for needed in service.get("depends_on", {}):
            assert needed in services, name
        for variable, value in service["environment"].items():
            if SECRET.search(variable):
                assert re.fullmatch(r"\$\{\w+:\?.*\}", value), f"{name}: {variable} is written down, or may be empty"


def test_jobs_cannot_read_the_passwords_file() -> None:
    """The checkout, with infra/.env in it, is mounted into what runs jobs."""
    seen = [name for name, service in COMPOSE["services"].items() if "..:/yard" in service.get("volumes", [])]
    assert set(seen) == {"ray-head", "ray-worker", "retrain"}
    for name in seen:
        assert COMPOSE["services"][name]["volumes"].index("/dev/null:/yard/infra/.env:ro") > 0


def test_compose_asks_for_what_the_example_lists() -> None:
    wanted = set(re.findall(r"\$\{(\w+):\?", (INFRA / "compose.yaml").read_text()))
    example = dict(re.findall(r"^(\w+)=(.*)$", (INFRA / "env.example").read_text(), re.MULTILINE))
    assert wanted <= example.keys()
    assert [
        name for name, value in example.items() if value and name.endswith(("PASSWORD", "SECRET_ACCESS_KEY", "TOKEN"))
    ] == []
    ignored = subprocess.run(["git", "check-ignore", "infra/.env"], cwd=ROOT, capture_output=True, check=False)
    assert ignored.returncode == 0, "infra/.env must never be committed"


def test_the_linter_takes_the_dockerfile() -> None:
    linter = [str(BIN / "hadolint"), "--config", str(INFRA / "hadolint.yaml"), "--failure-threshold=style"]
    done = subprocess.run([*linter, str(INFRA / "Dockerfile")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    ignored = re.findall(r"^\s+- DL\d+.*$", (INFRA / "hadolint.yaml").read_text(), re.MULTILINE)
    assert ignored
    assert all("  # " in line for line in ignored), "every ignored rule has its reason"


def test_the_image_is_of_this_repository() -> None:
    text = (INFRA / "Dockerfile").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    copied = [name for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE) for name in line.split()[:-1]]
    assert len(copied) > 4
    assert [name for name in copied if not (ROOT / name).exists()] == []
    kept = (INFRA / "Dockerfile.dockerignore").read_text().splitlines()
    assert all(f"!{name}" in kept for name in copied)
    assert f"--extra {next(iter(project['optional-dependencies']))}" in text
    assert re.search(r"^USER 1000", text, re.MULTILINE)
    images = {container["image"] for _, container in CONTAINERS}
    assert {image.removesuffix("-cuda") for image in images} == {f"trainyard:{project['version']}", schedule.IMAGE}
    assert COMPOSE["services"]["mlflow"]["image"] == f"trainyard:${{TRAINYARD_VERSION:-{project['version']}}}"
    locked = dict(re.findall(r"^([\w-]+)==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    assert RAY["kuberay/raycluster.yaml:RayCluster"]["spec"]["rayVersion"] == locked["ray"]


def test_no_address_of_a_package_index() -> None:
    texts = [file.read_text() for file in INFRA.rglob("*") if file.is_file() and file.name != ".env"]
    assert len(texts) > 10
    assert [
        text for text in texts if re.search(r"index-url|https?://[^\s\"']*(pypi|pytorch\.org/whl|/simple)", text)
    ] == []


# ------------------------------------------------------------------------------------------------ commands


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every command of ours in infra/ and in what `schedule` prints."""
    for name, service in COMPOSE["services"].items():
        if service["image"].startswith("trainyard"):
            yield f"compose {name}", service["command"]
    for name, container in CONTAINERS:
        if "command" in container:
            yield name, container["command"]
    for name, found in RAY.items():
        job = found["spec"].get("jobTemplate", found["spec"])
        if "entrypoint" in job:
            yield name, shlex.split(job["entrypoint"].partition("exec ")[2])
    for address in (None, "http://ray.example:8265"):
        unit = filled("systemd", address=address)["systemd/trainyard-retrain.service"]
        yield "systemd", shlex.split(re.search(r"^ExecStart=(.+)$", unit, re.MULTILINE)[1])
        line = filled("cron", address=address)["cron/trainyard"].splitlines()[-1]
        yield "cron", shlex.split(line.rpartition("&& ")[2].partition(" >>")[0])


COMMANDS = list(commands())


@pytest.mark.parametrize(("place", "command"), COMMANDS, ids=[f"{p}-{i}" for i, (p, _) in enumerate(COMMANDS)])
def test_every_command_exists(place: str, command: list[str]) -> None:
    if command[:2] == ["ray", "start"]:
        from ray.scripts.scripts import start

        start.make_context("start", command[2:])
        return
    assert command[0] == "trainyard" or command[1:3] == ["-m", "pipelines"]
    given = command[1:] if command[0] == "trainyard" else command[3:]
    parsed = parser.build_parser().parse_args(given)
    if given[0] == "submit":
        parser.build_parser().parse_args(parsed.command)
        given = parsed.command
    assert given[0] == "tracker" or tuple(given) == schedule.COMMAND, "what a schedule calls is one command"


def test_compose_and_kubernetes_serve_the_tracker_alike() -> None:
    (found,) = {tuple(command) for _, command in COMMANDS if command[1] == "tracker"}
    assert found[0] == "trainyard"


def test_every_variable_is_read_by_somebody() -> None:
    names = {name for service in COMPOSE["services"].values() for name in service["environment"]}
    names |= {given["name"] for _, container in CONTAINERS for given in container.get("env", [])}
    names |= set(re.findall(r"\b(?:MLFLOW|RAY|TRAINYARD)_[A-Z_]+\b", (INFRA / "mlflow/mlflow.yaml").read_text()))
    import mlflow
    import ray

    packages = Path(mlflow.__file__).parent, Path(ray.__file__).parent
    sources = [*(packages[0] / name for name in ("environment_variables.py", "cli/__init__.py", "utils/cli_args.py"))]
    sources += [packages[0] / "server/auth/__init__.py", *(packages[1] / "_private/authentication").glob("*.py")]
    sources += [*ROOT.glob("components/**/*.py"), *ROOT.glob("pipelines/**/*.py")]
    text = "\n".join(file.read_text() for file in sources)
    names = {
        name for name in names if name.startswith(("MLFLOW_", "RAY_", "TRAINYARD_")) and name != "TRAINYARD_VERSION"
    }
    assert len(names) > 8
    assert [name for name in sorted(names) if not re.search(rf"\b{name}\b", text)] == []


# ------------------------------------------------------------------------------------------------ schedules


def analyze(*arguments: str) -> str:
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("no systemd-analyze on this machine")
    done = subprocess.run(
        [tool, *arguments], capture_output=True, text=True, check=False, env=os.environ | {"TZ": "UTC"}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("address", [None, "http://127.0.0.1:8265"])
def test_systemd_takes_the_units(tmp_path: Path, address: str | None) -> None:
    texts = filled("systemd", folder=str(ROOT), python=sys.executable, user="root", address=address)
    for name, text in texts.items():
        (tmp_path / Path(name).name).write_text(text)
    assert analyze("verify", "--man=no", *map(str, sorted(tmp_path.iterdir()))) == ""


def test_systemd_would_mind_a_mistake(tmp_path: Path) -> None:
    """The check above can fail."""
    text = filled("systemd", folder=str(ROOT), python=sys.executable, user="root")["systemd/trainyard-retrain.service"]
    (tmp_path / "bad.service").write_text(text.replace("Type=oneshot", "Type=onceshot"))
    with pytest.raises(AssertionError):
        assert analyze("verify", "--man=no", str(tmp_path / "bad.service")) == ""


@pytest.mark.parametrize(
    "at",
    [
        "0 3 * * *",
        "*/15 * * * *",
        "30 2 * * mon-fri",
        "0 0 1 */3 *",
        "5,35 6-20/2 * * 0",
        "0 4 29 feb *",
        "@weekly",
        "0 3 * * 7",
    ],
)
def test_systemd_comes_when_cron_would(at: str) -> None:
    """The next five times that systemd says, against cron's rule tried minute by minute."""
    times = crontime.parse_times(at)
    said = analyze("calendar", "--base-time=2026-11-24 12:00:00 UTC", "--iterations=5", times.calendar())
    found = [
        datetime.strptime(line, "%Y-%m-%d %H:%M:%S")
        for line in re.findall(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC", said)
    ]
    assert len(found) >= 5
    assert found[-5:] == due(at, datetime(2026, 11, 24, 12), 5)


def due(at: str, now: datetime, count: int) -> list[datetime]:
    """The first `count` minutes after now that fit: the fields read anew, in the plainest way."""
    fields = {"@weekly": "0 0 * * 0"}.get(at, at).replace("mon-fri", "1-5").replace("feb", "2").split()

    def fits(field: str, value: int, low: int) -> bool:
        for part in field.split(","):
            whole, _, step = part.partition("/")
            first, _, last = whole.partition("-")
            if whole == "*":
                inside, start = True, low
            else:
                inside, start = int(first) <= value <= int(last or first), int(first)
            if inside and (value - start) % int(step or 1) == 0:
                return True
        return False

    found: list[datetime] = []
    day = now.replace(hour=0, minute=0)
    while len(found) < count:
        weekday = day.isoweekday() % 7
        sunday = weekday == 0 and fits(fields[4], 7, 0)
        if fits(fields[2], day.day, 1) and fits(fields[3], day.month, 1) and (fits(fields[4], weekday, 0) or sunday):
            hours = [hour for hour in range(24) if fits(fields[1], hour, 0)]
            minutes = [minute for minute in range(60) if fits(fields[0], minute, 0)]
            found += [t for h in hours for m in minutes if (t := day + timedelta(hours=h, minutes=m)) > now]
        day += timedelta(days=1)
    return found[:count]


@given(
    st.sets(st.integers(0, 59), min_size=1),
    st.sets(st.integers(0, 23), min_size=1),
    st.sets(st.integers(1, 28), min_size=1),
    st.sets(st.integers(1, 12), min_size=1),
)
def test_plain_numbers_mean_the_same(minutes: set[int], hours: set[int], days: set[int], months: set[int]) -> None:
    text = " ".join(",".join(map(str, some)) for some in (minutes, hours, days, months)) + " *"
    times = crontime.parse_times(text)
    assert times.minutes is None if len(minutes) == 60 else times.minutes == minutes
    assert crontime.parse_times(times.cron()) == times


@pytest.mark.parametrize(
    ("at", "says"),
    [
        ("61 * * * *", "minute: '61' is not within 0 to 59"),
        ("0 3 * *", "five fields"),
        ("0 3 * * frd", "did you mean 'fri'"),
        ("0 3 * okt *", "did you mean 'oct'"),
        ("0 5-3 * * *", "runs backwards"),
        ("*/0 * * * *", "none of"),
        ("0 3 31 2,4 *", "never comes"),
        ("0 3 1 * 1", "give one of them"),
        ("@dayly", "did you mean '@daily'"),
        ("", "five fields"),
        ("0 3 * * *\n* * * * * rm -r /", "five fields"),
    ],
)
def test_bad_times_are_refused(at: str, says: str) -> None:
    with pytest.raises(Refusal, match=re.escape(says)):
        crontime.parse_times(at)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--to=kubernets"], "did you mean 'kubernetes'"),
        (["--to=cron", "--at=0 25 * * *"], "hour: '25'"),
        (["--to=cron", "--folder=/nowhere"], "no checkout"),
        (["--to=systemd", "--python=/nowhere/python"], "no such program"),
        (["--to=systemd", "--user=rot"], "no such user"),
        (["--to=cron", "--image=x"], "--image means nothing to cron"),
        (["--to=kubernetes", "--user=root"], "--user means nothing to kubernetes"),
        (["--to=kubernetes", "--address=ray:8265"], "http://HOST:8265"),
        (["--to=kubernetes", "--image=a\nb"], "control character"),
        (["--to=kuberay", "--write=/nowhere"], "no such folder"),
        (["--to=kuberay", "--write=/proc"], "schedule: /proc/raycronjob.yaml: "),
    ],
)
def test_bad_input_gets_one_line(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert door.main(["schedule", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert len(err.splitlines()) == 1


def test_an_odd_folder_gets_through_every_quotation(tmp_path: Path) -> None:
    """A shell runs cron's line and finds the folder; systemd and YAML read the same name."""
    folder = tmp_path / '50% of $HOME\'s "data"'
    (folder / ".dvc").mkdir(parents=True)
    (folder / "params.yaml").touch()
    said = folder / "said"
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nprintf \'%s|\' "$PWD" "$@" > {shlex.quote(str(said))}\n')
    python.chmod(0o700)
    line = filled("cron", folder=str(folder), python=str(python))["cron/trainyard"].splitlines()[-1]
    fields = line.split(" ", 5)
    assert crontime.parse_times(" ".join(fields[:5])) == crontime.parse_times("30 2 * * 1-5")
    assert not re.search(r"(?<!\\)%", fields[5]), "cron ends the command at a bare %"
    subprocess.run(["/bin/sh", "-c", fields[5].replace(r"\%", "%")], check=True, cwd="/")
    assert said.read_text().split("|")[:-1] == [str(folder), "-m", "pipelines", *schedule.COMMAND]
    job = yaml.safe_load(filled("kuberay", folder=str(folder))["kuberay/raycronjob.yaml"])["spec"]["jobTemplate"]
    assert shlex.split(job["entrypoint"])[1] == str(folder)
    (folder / ".." / "50% python").resolve().symlink_to(python)
    options = {"folder": str(folder), "python": str(tmp_path / "50% python"), "user": "root"}
    unit = filled("systemd", **options)["systemd/trainyard-retrain.service"]
    (tmp_path / "odd.service").write_text(unit)
    assert analyze("verify", "--man=no", str(tmp_path / "odd.service")) == ""


def test_a_crontab_of_the_system_names_the_user() -> None:
    line = filled("cron", user="nobody")["cron/trainyard"].splitlines()[-1]
    assert line.split(" ")[5:7] == ["nobody", "cd"]


def test_files_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.chdir(ROOT)
    assert door.main(["schedule", "--to=systemd", f"--write={tmp_path}"]) == 0
    assert capsys.readouterr().out.split() == [str(file) for file in sorted(tmp_path.iterdir())]
    assert analyze("verify", "--man=no", *map(str, sorted(tmp_path.iterdir()))) == ""


def test_templates_have_no_hole_left() -> None:
    for to in schedule.PLACES:
        for text in filled(to, user="root" if to in ("cron", "systemd") else None).values():
            assert not re.search(r"(?<!\$)\$[a-z_]+\b", text)
    assert sorted(TEMPLATES) == sorted(name for name in TEMPLATES if "$" in (INFRA / name).read_text())
