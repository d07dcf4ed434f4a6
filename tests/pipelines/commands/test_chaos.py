"""The disturbed run of `trainyard chaos`: a command that fails by itself is not repeated for ever."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from components.errors import Refusal
from pipelines.commands.chaos import Disturbance
from pipelines.commands.sandbox import Sandbox


class FailingSandbox(Sandbox):
    """A sandbox in which nothing can be killed, and whose command fails at once."""

    def start_tracker(self) -> None:
        """Start nothing."""

    def start_run(self) -> subprocess.Popen:
        self.starts += 1
        assert self.starts < 5, "the command is repeated, although nothing was killed"
        return self.groups.enter_context(subprocess.Popen(["sh", "-c", "exit 3"]))


def test_a_command_that_fails_without_a_kill_is_refused(tmp_path: Path) -> None:
    with FailingSandbox(tmp_path, port=0).groups as groups:
        sandbox = FailingSandbox(tmp_path, port=0, groups=groups)
        with pytest.raises(Refusal, match=r"exit code 3 although nothing was killed; see .*/run\.log"):
            Disturbance(sandbox, 1, ["worker"], random.Random(0), []).run()
