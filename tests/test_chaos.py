"""The fault injection that ships with the product, at six kills: nothing is lost, and it says so."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.cluster(lane=1), pytest.mark.slow, pytest.mark.timeout(1200)]


def test_six_kills_change_no_byte_and_no_point() -> None:
    command = [sys.executable, "-m", "pipelines", "chaos", "--kills", "6", "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1100)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    kinds = re.search(r"kills +6 \((.*)\)", done.stdout)
    assert kinds is not None, done.stdout
    assert len(kinds[1].split(", ")) == 5, "one of each kind, and one more"
    equal, total = re.search(r"files equal +(\d+) of (\d+)", done.stdout).groups()  # type: ignore[union-attr]
    assert equal == total != "0"
    assert "lost 0, doubled 0" in done.stdout
