"""Packages and images are what their hashes say, and each direct dependency has a reason."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.infra.manifests import COMPOSE, INFRA

ROOT = Path(__file__).parent.parent
LOCKS = ("requirements.lock", "bootstrap.lock", "infra/image.lock")


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", name)[0]).lower()  # type: ignore[index]


def read_versions(lock: str) -> list[tuple[str, str]]:
    """Return (name, version) of every entry; a package may have several, for different versions of Python."""
    return re.findall(r"^([\w.-]+)==(\S+)", (ROOT / lock).read_text(), re.MULTILINE)


def run_make(*arguments: str) -> str:
    """Return the commands that make would run."""
    command = ["make", "--dry-run", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_package_has_hashes_and_no_address(lock: str) -> None:
    text = (ROOT / lock).read_text()
    packages = re.split(r"\n(?=\S)", text.strip())
    assert len(packages) == len(read_versions(lock)) > 2
    assert [p for p in packages if not re.search(r"--hash=sha256:[0-9a-f]{64}\b", p)] == []
    assert re.findall(r"https?://|--index|--extra-index|--find-links| @ ", text) == []


def test_the_locks_agree_and_hold_what_the_project_names() -> None:
    everything, image = read_versions("requirements.lock"), read_versions("infra/image.lock")
    assert set(image) <= set(everything)
    assert next(pin for pin in everything if pin[0] == "setuptools") in read_versions("bootstrap.lock")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    shipped = {normal(name) for name in [*project["dependencies"], *project["optional-dependencies"]["team"]]}
    assert shipped <= {name for name, _ in image}
    assert {normal(name) for name in project["optional-dependencies"]["dev"]} <= {name for name, _ in everything}


def installing_commands() -> list[str]:
    """Return every command that installs packages: of `make env`, the README and the Dockerfile."""
    dry = subprocess.run(
        ["make", "--dry-run", "-W", "requirements.lock", "env"], cwd=ROOT, capture_output=True, text=True
    )
    texts = [dry.stdout, (ROOT / "README.md").read_text().replace("\n", " "), (INFRA / "Dockerfile").read_text()]
    joined = "\n".join(re.sub(r"\\\n\s*", " ", text) for text in texts)
    return re.findall(r"(?:pip install|uv pip sync|\$install) [^\n&;`]*", joined)


def test_nothing_is_installed_without_its_hash() -> None:
    commands = installing_commands()
    assert len(commands) > 8
    unchecked = [command for command in commands if "--require-hashes" not in command]
    for command in unchecked:
        is_definition = command.startswith("pip install --no-cache --python") and "--requirement" not in command
        is_own_code = re.search(r"--no-deps .*(-e|--editable) \.", command)
        is_documented = command.strip() == "$install --requirement unchecked.lock"
        assert is_definition or is_own_code or is_documented, command
        assert not is_own_code or re.search("--no-build-isolation|--build-constraints bootstrap.lock", command), command


def test_images_are_named_by_digest() -> None:
    """Ours is built here; each other one comes from infra/.env, where an incomplete digest ends the command."""
    foreign = {s["image"] for s in COMPOSE["services"].values() if not s["image"].startswith("trainyard:")}
    names = [re.fullmatch(r"\$\{(\w+_IMAGE):\?.*\}", image) for image in foreign]
    assert all(names), foreign
    example = dict(re.findall(r"^(\w+)=(.*)$", (INFRA / "env.example").read_text(), re.MULTILINE))
    for match in names:
        assert match
        assert re.fullmatch(r"[\w./-]+:[\w.-]+@sha256:([0-9a-f]{64})?", example[match[1]])
    assert re.fullmatch(r"python:3\.11[\w.-]*@sha256:([0-9a-f]{64})?", example["BASE"])
    stages = re.findall(r"^FROM (\S+)", (INFRA / "Dockerfile").read_text(), re.MULTILINE)
    assert set(stages) == {"${BASE}"}
    assert re.search(r"^ARG BASE$", (INFRA / "Dockerfile").read_text(), re.MULTILINE), "without a default"


def test_every_direct_dependency_has_a_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *(project["optional-dependencies"][name] for name in ("team", "dev"))]
    tables = (ROOT / "docs" / "dependencies.md").read_text().split("| package | why |")[1:]
    assert len(tables) == len(groups)
    for group, table in zip(groups, tables, strict=True):
        rows = re.findall(r"^\| `([\w.-]+)` \| (.+) \|$", table.partition("\n\n")[0], re.MULTILINE)
        assert [name for name, _ in rows] == sorted({normal(name) for name in group})
        assert all(len(why) > 10 for _, why in rows)


def test_the_audit_counts_what_it_cannot_look_up_as_a_failure() -> None:
    command = subprocess.run(
        ["make", "--dry-run", "audit"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert "--strict" in command
    assert all(f"--requirement {lock}" in command for lock in ("requirements.lock", "bootstrap.lock"))
    assert re.search(r"Last result, \d{4}-\d\d-\d\d: ", (ROOT / "docs" / "dependencies.md").read_text())
