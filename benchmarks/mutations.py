"""Change the code that decides, one place at a time, and count the changes that its tests notice.

`python -m benchmarks.mutations --seed 0 --draws 10` draws mutants of every file in benchmarks/mutations.yaml with the
operators of cosmic-ray: a comparison turned, a constant changed, a condition negated. Each one is written into a copy
of the repository and faces the tests named there, and nothing else. Results go to docs/mutations.json and, as a
table with every survivor and why it may live, to docs/mutations.md. `--only meter order` draws for those files alone.

cosmic-ray's own runner would start Python and import torch once per mutant, 5 s each; here a process that has imported
them is forked.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
ROOMS = Path(__file__).with_suffix(".yaml")
RECORD = ROOT / "docs" / "mutations.json"
PAGE = ROOT / "docs" / "mutations.md"
LEAST = 0.75  # share of the drawn mutants that the tests must kill
PRELOADED = ("numpy", "torch", "scipy.stats", "pyarrow", "safetensors.torch", "hypothesis", "pytest", "tqdm")
# They change nothing that the file's own tests could see: an exception's type, where a loop is left, a decorator.
EXCLUDED = ("ExceptionReplacer", "RemoveDecorator", "VariableReplacer", "VariableInserter")


@dataclass(frozen=True)
class Mutant:
    """A changed file: its whole text, the line number, and that line before and after."""

    text: str
    line: int
    before: str
    after: str

    @property
    def change(self) -> str:
        """Return the change on one line; benchmarks/mutations.yaml explains survivors under this text."""
        return f"{self.before} => {self.after}"


# ------------------------------------------------------------------------------------------------ mutants


def list_places(source: str) -> dict[tuple[Any, Any], list[tuple[Any, int]]]:
    """Return {place in the source: (operator, its number of the place), all of which can change something there}."""
    from cosmic_ray import plugins
    from cosmic_ray.ast import ast_nodes, get_ast

    nodes = list(ast_nodes(get_ast(source)))
    places: dict[tuple[Any, Any], list[tuple[Any, int]]] = {}
    for name in sorted(plugins.operator_names()):
        if not name.endswith(EXCLUDED):
            operator = plugins.get_operator(name)()
            positions = [position for node in nodes for position in operator.mutation_positions(node)]
            for occurrence, position in enumerate(positions):
                places.setdefault(position, []).append((operator, occurrence))
    return places


def describe_code(source: str) -> str:
    """Return the syntax tree of a file as text, without annotations, which are never evaluated here."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        for name in ("annotation", "returns"):
            if getattr(node, name, None) is not None:
                setattr(node, name, None if name == "returns" or isinstance(node, ast.arg) else ast.Constant(0))
    return ast.dump(tree)


def differs(text: str, meaning: str) -> bool:
    """Return whether a mutant is valid Python that differs from the original code."""
    try:
        return describe_code(text) != meaning
    except SyntaxError:
        return False


def make_mutant(source: str, text: str) -> Mutant:
    lines = zip(source.splitlines(), text.splitlines(), strict=False)
    number, before, after = next((n, a.strip(), b.strip()) for n, (a, b) in enumerate(lines, 1) if a != b)
    return Mutant(text, number, before, after)


def draw_mutants(source: str, count: int, seed: int) -> list[Mutant]:
    """Draw `count` places without repetition, and one mutant at each; return them in the order of the file.

    Places count equally, because a plus sign has eleven replacements and a comparison seven. A change of an annotation
    alone is no mutant.
    """
    from cosmic_ray.mutating import mutate_code

    generator = random.Random(seed)
    places, meaning = list_places(source), describe_code(source)
    mutants: list[Mutant] = []
    for place in generator.sample(sorted(places), len(places)):
        operator, occurrence = generator.choice(places[place])
        text = mutate_code(source, operator, occurrence)
        if text is not None and len(mutants) < count and differs(text, meaning):
            mutants.append(make_mutant(source, text))
        if len(mutants) == count:
            break
    return sorted(mutants, key=lambda mutant: mutant.line)


# ------------------------------------------------------------------------------------------------ trials


class Laboratory:
    """A copy of the repository in which tests run against changed files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        listing = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard", "--", "*.py", "*.yaml", "*.toml", "components", "docs"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        for name in listing.stdout.splitlines():
            if (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, folder / name)
        for name in PRELOADED:
            importlib.import_module(name)

    def run_tests(self, tests: list[str], limit: float, is_changed: bool) -> bool:
        """Return whether the tests pass within `limit` seconds; one that hangs has noticed the change as well."""
        child = os.fork()
        if child == 0:
            # Bytecode is checked by time and size, which may both be those of the mutant before.
            sys.dont_write_bytecode = is_changed
            os._exit(self._serve(tests))
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status) == 0
            time.sleep(0.02)
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return False

    def _serve(self, tests: list[str]) -> int:
        """Run the tests in this process, which was forked for it; return pytest's exit code."""
        os.setsid()
        output = os.open(self.folder / "output.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.chdir(self.folder)
        sys.path[:] = [str(self.folder), *(path for path in sys.path if path not in ("", str(ROOT)))]
        import hypothesis
        import pytest

        phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)  # a failing example need not be small
        hypothesis.settings.register_profile("mutants", phases=phases, deadline=None, database=None)
        hypothesis.settings.load_profile("mutants")
        options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--hypothesis-seed=0", "--no-header"]
        return int(pytest.main([*options, *tests]))

    def try_file(self, name: str, mutants: list[Mutant], tests: list[str]) -> list[Mutant]:
        """Return the mutants of a file that its tests let live."""
        file = self.folder / name
        source = file.read_text()
        begin = time.monotonic()
        if not self.run_tests(tests, 400, is_changed=False):
            raise SystemExit(f"{name}: its tests fail without a change; see {self.folder}/output.log")
        limit = 5 + 3 * (time.monotonic() - begin)
        survivors = []
        for bytecode in file.parent.glob(f"__pycache__/{file.stem}.*"):
            bytecode.unlink()
        try:
            for mutant in mutants:
                file.write_text(mutant.text)
                if self.run_tests(tests, limit, is_changed=True):
                    survivors.append(mutant)
        finally:
            file.write_text(source)
        return survivors


# ------------------------------------------------------------------------------------------------ results


def read_rooms(only: list[str]) -> dict[str, dict[str, Any]]:
    """Return {file: its tests, its explained survivors}, of the files whose names are in `only` if any are."""
    rooms = yaml.safe_load(ROOMS.read_text())
    return {name: room for name, room in rooms.items() if not only or Path(name).stem in only}


def measure(rooms: dict[str, dict[str, Any]], draws: int, seed: int, folder: Path) -> Iterator[tuple[str, Any]]:
    """Yield (file, its row of the record) for every file of `rooms`."""
    laboratory = Laboratory(folder)
    for name, room in rooms.items():
        begin = time.monotonic()
        mutants = draw_mutants((ROOT / name).read_text(), draws, seed)
        survivors = laboratory.try_file(name, mutants, room["tests"])
        rows = [{key: value for key, value in asdict(mutant).items() if key != "text"} for mutant in survivors]
        killed = len(mutants) - len(survivors)
        print(f"{name}: {killed} of {len(mutants)} killed, {time.monotonic() - begin:.0f} s", flush=True)
        for mutant in survivors:
            print(f"  {mutant.line}: {mutant.change}", flush=True)
        yield name, {"seed": seed, "drawn": len(mutants), "killed": killed, "survivors": rows}


def render_page(record: dict[str, Any], rooms: dict[str, dict[str, Any]]) -> str:
    """Return docs/mutations.md: a row per file, then every survivor with the reason that mutations.yaml gives."""
    drawn, killed = (sum(row[key] for row in record.values()) for key in ("drawn", "killed"))
    lines = [
        "# Mutations",
        "",
        "Written by `python -m benchmarks.mutations`: mutants drawn by seed, each against the tests of its file alone.",
        f"{killed} of {drawn} are killed ({killed / drawn:.0%}; at least {LEAST:.0%} are required).",
        "",
        "| file | seed | killed | drawn |",
        "|---|---|---|---|",
    ]
    for name in rooms:
        row = record.get(name, {"seed": "", "killed": "not drawn yet", "drawn": ""})
        lines.append(f"| `{name}` | {row['seed']} | {row['killed']} | {row['drawn']} |")
    lines += ["", "## Survivors", "", "| place | change | why it may live |", "|---|---|---|"]
    for name, row in record.items():
        for mutant in row["survivors"]:
            change = f"{mutant['before']} => {mutant['after']}"
            why = rooms.get(name, {}).get("survivors", {}).get(change, "not explained")
            cell = change.replace("|", "\\|")
            lines.append(f"| `{Path(name).name}:{mutant['line']}` | `{cell}` | {why} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Draw and try mutants, and write the record and the page; return 1 if too few are killed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mutations")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--draws", type=int, default=10, help="mutants per file (default: 10)")
    parser.add_argument("--only", nargs="*", default=[], help="names of files, such as meter")
    parser.add_argument("--page", action="store_true", help="write the page from the record alone")
    arguments = parser.parse_args()
    record = json.loads(RECORD.read_text()) if RECORD.is_file() else {}
    if not arguments.page:
        with tempfile.TemporaryDirectory(prefix="trainyard-mutations-") as folder:
            for name, row in measure(read_rooms(arguments.only), arguments.draws, arguments.seed, Path(folder)):
                record[name] = row
                write_results(record)
    write_results(record)
    return 0 if sum(r["killed"] for r in record.values()) >= LEAST * sum(r["drawn"] for r in record.values()) else 1


def write_results(record: dict[str, Any]) -> None:
    """Write the record, in the order of mutations.yaml, and the page."""
    rooms = read_rooms([])
    ordered = {name: record[name] for name in rooms if name in record}
    RECORD.write_text(json.dumps(ordered, indent=1) + "\n")
    PAGE.write_text(render_page(ordered, rooms))


if __name__ == "__main__":
    raise SystemExit(main())
