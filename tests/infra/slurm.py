"""Start a real Slurm on this machine, two nodes of one CPU each, for the tests that need one; root alone can."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from components.network import free_port

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
PATH = f"{os.environ['PATH']}{os.pathsep}/usr/sbin"
CONFIGURATION = """
ClusterName=yard
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=0,sched_interval=2,requeue_delay=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
ReturnToService=2
MpiDefault=none
JobRequeue=1
NodeName=node1 NodeHostname={host} NodeAddr=127.0.0.1 Port={port1} CPUs=1 State=UNKNOWN
NodeName=node2 NodeHostname={host} NodeAddr=127.0.0.1 Port={port2} CPUs=1 State=UNKNOWN
PartitionName=low Nodes=ALL Default=YES PriorityTier=1 GraceTime=60 State=UP
PartitionName=high Nodes=ALL PriorityTier=9 PreemptMode=OFF State=UP
"""


@dataclass
class Slurm:
    """A running Slurm; `run` calls its commands."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment in which its commands find it."""
        return os.environ | {"SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": PATH}

    def run(self, *command: str) -> str:
        """Return the output of one of Slurm's commands."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout.strip()

    def state(self, job: str) -> str:
        """Return the state of a job, for example RUNNING."""
        fields = dict(field.split("=", 1) for field in self.run("scontrol", "show", "job", job).split() if "=" in field)
        return fields["JobState"]

    def wait_for(self, job: str, *states: str, patience: float = 90.0) -> str:
        """Wait until the job is in one of these states, and return it."""
        deadline = time.monotonic() + patience
        while (state := self.state(job)) not in states:
            assert time.monotonic() < deadline, f"job {job} is {state}, not {states}\n{self.logs()}"
            time.sleep(0.2)
        return state

    def logs(self) -> str:
        """Return the ends of all logs."""
        return "\n".join(f"== {file}\n{file.read_text()[-1500:]}" for file in sorted(self.folder.glob("*.log")))


def can_run() -> bool:
    """Return whether this machine can run Slurm: its programs are installed (apt: slurm-wlm), and we are root."""
    return os.geteuid() == 0 and all(shutil.which(program, path=PATH) for program in PROGRAMS)


@contextmanager
def start_slurm(folder: Path) -> Iterator[Slurm]:
    """Run munged, slurmctld and two slurmds in the foreground while the block runs; their files are in `folder`."""
    host = subprocess.run(["hostname", "-s"], capture_output=True, text=True, check=True).stdout.strip()
    values = {"folder": folder, "host": host, "port": free_port(), "port1": free_port(), "port2": free_port()}
    (folder / "slurm.conf").write_text(CONFIGURATION.format(**values))
    (folder / "state").mkdir()
    (folder / "munge.key").write_bytes(os.urandom(64))
    (folder / "munge.key").chmod(0o600)
    slurm = Slurm(folder)
    munge = [f"--{kind}={folder}/munge.{kind.removesuffix('-file')}" for kind in ("key-file", "pid-file", "log-file")]
    munge += [f"--seed-file={folder}/munge.seed", f"--socket={folder}/munge.socket", "--foreground", "--force"]
    commands = [["munged", *munge], ["slurmctld", "-D", "-i"]]
    commands += [["slurmd", "-D", "-N", node] for node in ("node1", "node2")]
    processes = []
    try:
        for command in commands:
            with (folder / f"{command[0]}-output.log").open("a") as log:
                processes.append(
                    subprocess.Popen(command, env=slurm.environment, stdout=log, stderr=log, start_new_session=True)
                )
            time.sleep(0.5)
        deadline = time.monotonic() + 60
        while (states := slurm.run("sinfo", "--noheader", "--partition=low", "--format=%T").split()) != ["idle"]:
            assert time.monotonic() < deadline, f"nodes are {states}\n{slurm.logs()}"
            time.sleep(0.5)
        yield slurm
    finally:
        subprocess.run(["scancel", "--user=root"], env=slurm.environment, capture_output=True, check=False, timeout=60)
        time.sleep(1)
        for process in reversed(processes):
            process.send_signal(signal.SIGTERM)
        for process in reversed(processes):
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
