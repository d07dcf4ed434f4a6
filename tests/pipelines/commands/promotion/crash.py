"""Kill `trainyard retrain` at a chosen point between a decision and its audit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from tests.pipelines.yard import ROOT

SCRIPT = """
import os, signal
from components.tracking.registry import Registry
from pipelines.commands.promotion import ledger, retrain
from tests.pipelines.yard import in_this_process
in_this_process(setattr)

def end(point):
    if point == {point!r}:
        os.kill(os.getpid(), signal.SIGKILL)

set_champion = Registry.set_champion
def set_and_end(self, version):
    end("between the decision and the alias")
    set_champion(self, version)
    open("moves", "a").write(version.number + " ")
    end("between the alias and its line")
Registry.set_champion = set_and_end

write = ledger.Ledger.write
def write_and_end(self, kind, **payload):
    if kind == "decided" and {point!r} == "inside the decision's line":
        open(self.path, "a").write('0badc0de {{"kind": "deci')
        end({point!r})
    write(self, kind, **payload)
    if kind == "moved":
        end("between the alias and the audit")
ledger.Ledger.write = write_and_end
raise SystemExit(retrain.main())
"""
MOVED_AT = {  # point -> whether the alias has moved
    "inside the decision's line": False,
    "between the decision and the alias": False,
    "between the alias and its line": True,
    "between the alias and the audit": True,
}


def kill_retrain(point: str) -> None:
    """Run a retrain of the current folder in a process that is killed at a point of MOVED_AT."""
    command = [sys.executable, "-c", SCRIPT.format(point=point)]
    process = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, check=False)
    assert process.returncode == -signal.SIGKILL, process.stderr
