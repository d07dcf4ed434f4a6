"""The commands in docs/operations.md exist, and its results follow from its own table of inputs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from pipelines.commands import parser

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "operations.md").read_text()
INPUTS = re.findall(r"^\| `(\w+)` \| ([\d.e]+) \|.*\| (given|measured|assumed|published) \|", TEXT, re.MULTILINE)
SUMS = re.findall(r"^\| [^|`]+ \| `(?:(\w+) = )?([^`=]+)` \| ([\d.,e]+)", TEXT, re.MULTILINE)


def test_the_arithmetic_is_right() -> None:
    """Every result is right to the digits that are shown."""
    values: dict[str, float] = {name: float(value) for name, value, _ in INPUTS}
    assert len(values) == 16, sorted(values)
    tables = re.findall(r"\| what \| arithmetic \| result \|\n\|[-|]+\n((?:\|.*\n)+)", TEXT)
    assert len(SUMS) == sum(table.count("\n") for table in tables), "a row was not parsed"
    wrong = []
    for name, expression, shown in SUMS:
        assert not set(re.findall(r"[a-z_]\w*", re.sub(r"\d[\d.]*e\d+", "", expression))) - values.keys(), expression
        value = float(eval(expression, {"__builtins__": {}}, dict(values)))
        digits = re.sub(r"e.*", "", shown.replace(",", ""))
        step = 10.0 ** (int(shown.partition("e")[2] or 0) - len(digits.partition(".")[2]))
        if abs(value - float(shown.replace(",", ""))) > 0.51 * step:
            wrong.append((expression, value, shown))
        if name:
            values[name] = value
    assert wrong == []
    assert len(SUMS) > 35


def test_measured_inputs_are_those_that_were_measured() -> None:
    assert {name for name, _, kind in INPUTS if kind == "measured"} == {"batch_call", "http_call", "restart"}


INLINE = re.findall(r"`(trainyard [a-z]+[^`\n]*)`", TEXT)
BLOCKS = [line for block in re.findall(r"```\n(.*?)```", TEXT, re.DOTALL) for line in block.splitlines()]
COMMANDS = sorted({*INLINE, *(match[0] for line in BLOCKS if (match := re.search(r"trainyard [a-z]+ [^|)]*", line)))})


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_exist(command: str) -> None:
    parser.build_parser().parse_args(shlex.split(command.replace("`", ""))[1:])


def test_the_commands_were_extracted() -> None:
    verbs = {command.split()[1] for command in COMMANDS}
    assert verbs >= {"doctor", "retrain", "schedule", "submit", "sync", "rollback", "tracker"}


def test_the_files_it_names_exist() -> None:
    named = set(re.findall(r"infra/[\w./-]*\w", TEXT)) - {"infra/.env"}
    assert len(named) > 6
    assert [name for name in named if not (ROOT / name).exists()] == []
