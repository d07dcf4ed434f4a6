"""Kill `trainyard retrain` at a chosen point between a decision and its audit."""

from __future__ import annotations

import os
import signal
import traceback
from typing import Any

from components.tracking.registry import Registry, Version
from pipelines.commands.promotion import retrain
from pipelines.commands.promotion.ledger import Ledger

MOVED_AT = {  # point -> whether the alias has moved
    "inside the decision's line": False,
    "between the decision and the alias": False,
    "between the alias and its line": True,
    "between the alias and the audit": True,
}


def fork_and_kill_retrain(point: str) -> None:
    """Run a retrain of the current folder in a process that is killed at a point of MOVED_AT.

    The process is forked, because another Python would first import torch and MLflow for ten seconds.
    """
    child = os.fork()
    if child == 0:
        try:
            end_at(point)
            retrain.main()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def end_at(point: str) -> None:
    """Let this process kill itself when it reaches the point."""

    def pass_point(name: str) -> None:
        if name == point:
            os.kill(os.getpid(), signal.SIGKILL)

    set_champion, write = Registry.set_champion, Ledger.write

    def set_and_end(self: Registry, version: Version) -> None:
        pass_point("between the decision and the alias")
        set_champion(self, version)
        pass_point("between the alias and its line")

    def write_and_end(self: Ledger, kind: str, **payload: Any) -> None:
        if kind == "decided" and point == "inside the decision's line":
            with self.path.open("a") as file:
                file.write('0badc0de {"kind": "deci')
            pass_point(point)
        write(self, kind, **payload)
        if kind == "moved":
            pass_point("between the alias and the audit")

    Registry.set_champion = set_and_end  # type: ignore[method-assign]
    Ledger.write = write_and_end  # type: ignore[method-assign]
