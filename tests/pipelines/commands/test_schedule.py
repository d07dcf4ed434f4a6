"""`trainyard schedule` prints files that cron, systemd and Kubernetes accept, and rejects bad input in one line."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import yaml

from components import environment_file
from pipelines import door
from pipelines.commands import crontime, schedule
from tests.infra.manifests import INFRA, ROOT, TEMPLATES, analyze_units, fill_templates


@pytest.mark.parametrize("address", [None, "http://127.0.0.1:8265"])
def test_systemd_accepts_the_units(tmp_path: Path, address: str | None) -> None:
    texts = fill_templates("systemd", folder=str(ROOT), python=sys.executable, user="root", address=address)
    for name, text in texts.items():
        (tmp_path / Path(name).name).write_text(text)
    assert analyze_units("verify", "--man=no", *map(str, sorted(tmp_path.iterdir()))) == ""


def test_the_unit_exposes_little(tmp_path: Path) -> None:
    """systemd's own measure: from 0 (nothing) to 10; a unit without these lines has 9.2."""
    unit = "systemd/trainyard-retrain.service"
    file = tmp_path / "trainyard-retrain.service"
    file.write_text(fill_templates("systemd", folder=str(ROOT), python=sys.executable, user="root")[unit])
    output = analyze_units("security", "--offline=true", "--threshold=30", "--no-pager", str(file))
    level = re.search(r"Overall exposure level for \S+: ([\d.]+)", output)
    assert level
    assert float(level[1]) <= 3.0


def test_systemd_rejects_a_mistake(tmp_path: Path) -> None:
    """The check above can fail."""
    text = fill_templates("systemd", folder=str(ROOT), python=sys.executable, user="root")[
        "systemd/trainyard-retrain.service"
    ]
    (tmp_path / "bad.service").write_text(text.replace("Type=oneshot", "Type=onceshot"))
    with pytest.raises(AssertionError):
        assert analyze_units("verify", "--man=no", str(tmp_path / "bad.service")) == ""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--to=kubernets"], "did you mean 'kubernetes'"),
        (["--to=cron", "--at=0 25 * * *"], "hour: '25'"),
        (["--to=cron", "--folder=/nowhere"], "no checkout"),
        (["--to=systemd", "--python=/nowhere/python"], "no such program"),
        (["--to=systemd", "--user=rot"], "no such user"),
        (["--to=cron", "--image=x"], "--image does not apply to --to cron"),
        (["--to=kubernetes", "--user=root"], "--user does not apply to --to kubernetes"),
        (["--to=kubernetes", "--address=ray:8265"], "http://HOST:8265"),
        (["--to=kubernetes", "--address=http://"], "http://HOST:8265"),
        (["--to=cron", "--address=http://me:canary@ray:8265"], "http://ray:8265: holds a user or a password"),
        (["--to=kubernetes", "--folder=yard"], "--folder yard: write the full path"),
        (["--to=kubernetes", "--image=a\nb"], "control character"),
        (["--to=cron", "--zone=Berlin"], "--zone Berlin: not a time zone"),
        (["--to=cron", "--env-file=/nowhere"], "--env-file /nowhere: no such file"),
        (["--to=kuberay", "--env-file=/etc/hosts"], "--env-file does not apply to --to kuberay"),
        (["--to=kuberay", "--folder=/my yard"], "/my yard: two shells read KubeRay's entrypoint"),
        (["--to=cron", "--write=/etc/cron.d"], "a file in /etc/cron.d names who runs the command: add --user NAME"),
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


def test_an_unusual_folder_survives_every_quoting(tmp_path: Path) -> None:
    """A shell runs cron's line in the folder; systemd reads the same name."""
    folder = tmp_path / '50% of $HOME\'s "data"'
    (folder / ".dvc").mkdir(parents=True)
    (folder / "params.yaml").touch()
    output = folder / "output"
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nprintf \'%s|\' "$PWD" "$@" > {shlex.quote(str(output))}\n')
    python.chmod(0o700)
    line = fill_templates("cron", folder=str(folder), python=str(python))["cron/trainyard"].splitlines()[-1]
    fields = line.split(" ", 5)
    assert crontime.parse_times(" ".join(fields[:5])) == crontime.parse_times("30 2 * * 1-5")
    assert not re.search(r"(?<!\\)%", fields[5]), "cron ends the command at a bare %"
    subprocess.run(["/bin/sh", "-c", fields[5].replace(r"\%", "%")], check=True, cwd="/")
    assert output.read_text().split("|")[:-1] == [str(folder), "-m", "pipelines", *schedule.COMMAND]
    words = yaml.safe_load(fill_templates("kubernetes", folder=str(folder))["kuberay/cronjob.yaml"])["spec"]
    words = words["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["command"]
    assert f"--folder={folder}" in words
    (folder / ".." / "50% python").resolve().symlink_to(python)
    options = {"folder": str(folder), "python": str(tmp_path / "50% python"), "user": "root"}
    unit = fill_templates("systemd", **options)["systemd/trainyard-retrain.service"]
    (tmp_path / "odd.service").write_text(unit)
    assert analyze_units("verify", "--man=no", str(tmp_path / "odd.service")) == ""


@pytest.mark.slow
def test_a_real_cron_daemon_runs_the_command(tmp_path: Path) -> None:
    """Install a system crontab for a minute; the daemon of this machine, or one that the test starts, reads it."""
    daemon, crontabs = shutil.which("cron"), Path("/etc/cron.d")
    if daemon is None or not crontabs.is_dir():
        pytest.skip("no cron on this machine (apt-get install cron)")
    if os.getuid() != 0:
        pytest.skip("only root may install a system crontab")
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "params.yaml").touch()
    output = tmp_path / "output"
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nprintf \'%s|\' "$PWD" "$@" >> {shlex.quote(str(output))}\n')
    python.chmod(0o700)
    options = {"at": "* * * * *", "folder": str(tmp_path), "python": str(python), "user": "root"}
    crontab = crontabs / f"trainyard-test-{os.getpid()}"
    process = None
    try:
        crontab.write_text(fill_templates("cron", **options)["cron/trainyard"])
        crontab.chmod(0o644)
        process = subprocess.Popen([daemon, "-f"], stderr=subprocess.DEVNULL)  # ends at once if another one runs
        until = time.monotonic() + 130  # it reads new crontabs each minute
        while not output.is_file() and time.monotonic() < until:
            time.sleep(0.5)
    finally:
        crontab.unlink(missing_ok=True)
        if process is not None:
            process.terminate()
            process.wait(10)
    assert output.read_text().split("|")[:-1] == [str(tmp_path), "-m", "pipelines", *schedule.COMMAND]


def test_a_password_in_the_file_of_secrets_is_no_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run cron's line with a file whose values a shell would execute or change."""
    touch = f"touch {tmp_path}/ran"
    secrets = {"PGPASSWORD": f"$({touch})`{touch}`; {touch}", "A_TOKEN": "a&b $HOME %d"}
    file = tmp_path / "secrets"
    file.write_text("# of the tracker\n\n" + "".join(f"{name}={value}\n" for name, value in secrets.items()))
    monkeypatch.setattr(schedule, "SECRETS", file)
    yard = tmp_path / "yard"
    (yard / ".dvc").mkdir(parents=True)
    (yard / "params.yaml").touch()
    python = yard / "python"
    code = "import json, os, sys; sys.path.insert(0, %r)\nfrom components import environment_file\n"
    code += "environment_file.load_environment_file(); json.dump(dict(os.environ), open('seen.json', 'w'))"
    python.write_text(f"#!/bin/sh\nexec {shlex.quote(sys.executable)} -c {shlex.quote(code % str(ROOT))}\n")
    python.chmod(0o700)
    *_, setting, line = fill_templates("cron", folder=str(yard), python=str(python))["cron/trainyard"].splitlines()
    name, _, value = setting.partition("=")
    command = line.split(" ", 5)[5].replace(r"\%", "%")
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), name: value}
    subprocess.run(["/bin/sh", "-c", command], check=True, cwd="/", env=environment)
    received = json.loads((yard / "seen.json").read_text())
    assert {key: received[key] for key in secrets} == secrets
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("to", ["cron", "systemd", "kuberay", "kubernetes"])
def test_every_target_takes_a_zone(to: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "knows_zones", lambda: True)
    user = "root" if to in ("cron", "systemd") else None
    text = "\n".join(fill_templates(to, zone="Europe/Berlin", user=user).values())
    if to == "cron":
        assert text.splitlines()[-2] == "CRON_TZ=Europe/Berlin"
        assert text.splitlines()[-1].startswith("30 2 * * 1,2,3,4,5 root cd ")
    elif to == "systemd":
        assert "\nOnCalendar=Mon,Tue,Wed,Thu,Fri *-*-* 02:30:00 Europe/Berlin\n" in text
    else:
        assert yaml.safe_load(text)["spec"]["timeZone"] == "Europe/Berlin"
        assert "timeZone" not in yaml.safe_load("\n".join(fill_templates(to).values()))["spec"]


@pytest.mark.parametrize(("shift", "is_due"), [(0, True), (60, False)])
def test_a_cron_that_ignores_zones_asks_for_the_time_there(
    shift: int, is_due: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run the line of a crontab for this minute, and for one an hour away, in a zone that is not this machine's."""
    monkeypatch.setattr(schedule, "knows_zones", lambda: False)
    output = tmp_path / "output"
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\ntouch {shlex.quote(str(output))}\n")
    python.chmod(0o700)
    zone = "Asia/Kathmandu"  # 5:45 hours ahead
    now = datetime.now(ZoneInfo(zone)) + timedelta(minutes=shift)
    soon = now + timedelta(minutes=1)  # the next minute may begin meanwhile
    at = f"{now.minute},{soon.minute} {now.hour},{soon.hour} * * *"
    options = {"zone": zone, "folder": str(tmp_path), "python": str(python)}
    *_, setting, line = fill_templates("cron", at=at, **options)["cron/trainyard"].splitlines()
    assert setting == f"CRON_TZ={zone}"
    fields = line.split(" ", 5)
    assert fields[1:5] == ["*"] * 4
    due_minutes = {int(minute) for minute in fields[0].split(",")}
    assert now.astimezone(UTC).minute in due_minutes
    done = subprocess.run(["/bin/sh", "-c", fields[5].replace(r"\%", "%")], cwd="/", check=False)
    assert output.exists() == is_due == (done.returncode == 0)


def test_the_cron_of_this_machine_is_asked_whether_it_knows_zones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = tmp_path / "crond"
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(schedule, "SYSTEM_PATH", "")
    for content, knows in ((b"\x7fELF CRON_TZ", True), (b"\x7fELF", False)):
        daemon.write_bytes(content)
        daemon.chmod(0o700)
        assert schedule.knows_zones() == knows


def test_a_skipped_hour_is_reported(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.chdir(ROOT)
    assert door.main(["schedule", "--to=kubernetes", "--at=30 2 * * *", "--zone=Europe/Berlin"]) == 0
    out, err = capsys.readouterr()
    assert yaml.safe_load(out.partition("\n")[2])["spec"]["timeZone"] == "Europe/Berlin"
    assert "in Europe/Berlin the clock skips 02:30 on " in err
    assert "02:30 comes twice on " in err


@pytest.mark.parametrize("to", ["cron", "systemd"])
def test_the_file_of_secrets_is_named_and_checked_by_the_one_reader(
    to: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(ROOT)
    file = tmp_path / "my 50% secrets"
    file.write_text("PGPASSWORD=a&b $HOME c\n")
    assert door.main(["schedule", f"--to={to}", "--user=root", f"--env-file={file}"]) == 0
    text, notes = capsys.readouterr()
    assert f"the mode of {file} lets every user read it: chmod 600 {file}" in notes
    file.chmod(0o600)
    assert door.main(["schedule", f"--to={to}", "--user=root", f"--env-file={file}"]) == 0
    assert capsys.readouterr() == (text, "")
    if to == "cron":
        assert f"\nTRAINYARD_ENV_FILE={file}\n" in text
    else:  # without a dash: systemd then says that a file is missing
        assert f"\nEnvironmentFile={str(file).replace('%', '%%')}\n" in text
    file.write_text("PGPASSWORD='canary-77'\n")
    assert door.main(["schedule", f"--to={to}", "--user=root", f"--env-file={file}"]) == 2
    assert "canary" not in (err := capsys.readouterr().err)
    assert "PGPASSWORD has a quote at its begin" in err


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Make a folder that other users may enter, which pytest's are not."""
    with tempfile.TemporaryDirectory(prefix="trainyard-schedule-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may ask what another user can read")
def test_a_file_of_secrets_must_be_readable_by_the_user_who_reads_it(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Cron's command reads the file as its user, every night; systemd reads it as root."""
    monkeypatch.chdir(ROOT)
    file = open_folder / "environment"
    file.write_text("PGPASSWORD=a\n")
    file.chmod(0o600)
    monkeypatch.setattr(schedule, "SECRETS", file)
    for option in ([], [f"--env-file={file}"]):
        assert door.main(["schedule", "--to=cron", "--user=nobody", *option]) == 2
        says = f"{file}: cron runs the command as nobody, who cannot read it; name a file that belongs to nobody"
        assert says in capsys.readouterr().err
        assert door.main(["schedule", "--to=cron", *option]) == 0
        assert door.main(["schedule", "--to=systemd", "--user=nobody", *option]) == 0
        capsys.readouterr()
    shutil.chown(file, "nobody")
    assert door.main(["schedule", "--to=cron", "--user=nobody"]) == 0


def test_a_file_that_only_root_can_read_is_not_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Its folder may be closed to this user, too."""

    def deny(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(schedule.os, "access", lambda path, mode: str(path) != "/closed/environment")
    monkeypatch.setattr(schedule, "is_file", lambda path: True)
    arguments = ["--env-file=/closed/environment", "--user=root"]
    assert door.main(["schedule", "--to=systemd", *arguments]) == 0
    assert "/closed/environment cannot be read here, so its lines were not checked" in capsys.readouterr().err
    assert door.main(["schedule", "--to=cron", "--env-file=/closed/environment"]) == 2
    assert "cron runs the command as you, who cannot read it" in capsys.readouterr().err
    monkeypatch.setattr(Path, "is_file", deny)
    assert environment_file.is_file(Path("/closed/environment"))


def test_a_system_crontab_names_the_user_and_its_place(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """A crontab of one's own has no column for the user."""
    monkeypatch.chdir(ROOT)
    assert door.main(["schedule", "--to=cron", "--user=root"]) == 0
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first == "# /etc/cron.d/trainyard"
    assert last.split(" ")[5:7] == ["root", "cd"]
    assert door.main(["schedule", "--to=cron"]) == 0
    assert "/etc/cron.d" not in capsys.readouterr().out


def test_files_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.chdir(ROOT)
    assert door.main(["schedule", "--to=systemd", f"--write={tmp_path}"]) == 0
    assert capsys.readouterr().out.split() == [str(file) for file in sorted(tmp_path.iterdir())]
    assert analyze_units("verify", "--man=no", *map(str, sorted(tmp_path.iterdir()))) == ""


def test_every_placeholder_is_filled() -> None:
    for to in schedule.PLACES.keys() - {"slurm"}:  # whose script has variables of a shell
        for text in fill_templates(to, user="root" if to in ("cron", "systemd") else None).values():
            assert not re.search(r"(?<!\$)\$[a-z_]+\b", text)
    assert sorted(TEMPLATES) == sorted(name for name in TEMPLATES if "$" in (INFRA / name).read_text())
