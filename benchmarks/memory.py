"""Measure peak memory with one and with ten times the data: `python -m benchmarks.memory`.

prepare: draw and write every glyph in one process. train: one epoch of the engine over the Arrow files. Each is
measured in its own process with `getrusage`, which also counts mapped pages of files that the system may drop at any
time. The exit code is 1 if ten times the data takes over a tenth more memory.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

PER_CLASS = 400  # examples
TIMES = 10
MAX_RATIO = 1.10


def prepare(folder: Path, per_class: int) -> int:
    """Prepare the glyphs; return the number of training examples."""
    from components.data.glyphs import Glyphs
    from components.storage.dataset import prepare_dataset

    manifest = prepare_dataset(Glyphs(per_class=per_class, validation=0), folder)
    return int(manifest["splits"]["train"]["rows"])


def train(folder: Path, per_class: int) -> int:
    """Train for one epoch on the prepared glyphs; return the number of training examples."""
    from functools import partial

    from components import optimizers
    from components.cluster import allocator
    from components.models.mlp import MLP
    from components.storage.feed import Feed
    from components.storage.moments import compute_moments
    from components.storage.store import Store
    from components.tasks.classification import Classification
    from components.training import engine
    from components.training.task import Spec

    allocator.keep_freed_memory()
    store = Store(folder)
    split = store.split("train")
    spec = Spec({"image": (16, 16, 1)}, tuple(store.manifest["classes"]), compute_moments(split, 0, 1).finish())
    task = Classification(partial(MLP, hidden=[128]), partial(optimizers.sgd, lr=0.05))
    engine.fit(task, spec, Feed(split), epochs=1, batch=128)
    return len(split)


MEASURED = {"prepare": prepare, "train": train}


def measure(name: str, folder: Path, per_class: int) -> dict[str, Any]:
    """Return {examples, peak (MiB)} of a new process."""
    command = [sys.executable, "-m", "benchmarks.memory", "--measure", name, str(folder), str(per_class)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> int:
    """Print a table of peaks; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        examples = MEASURED[arguments.measure[0]](Path(arguments.measure[1]), int(arguments.measure[2]))
        unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
        print(json.dumps({"examples": examples, "peak": peak}))
        return 0
    worst = 0.0
    print("| process | examples | peak MiB | ten times the examples | peak MiB | ratio |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="trainyard-memory-") as folder:
        for name in MEASURED:
            small, large = (measure(name, Path(folder) / str(n), n * PER_CLASS) for n in (1, TIMES))
            ratio = large["peak"] / small["peak"]
            cells = [f"{m['examples']:,} | {m['peak']:.0f}" for m in (small, large)]
            print(f"| {name} | {cells[0]} | {cells[1]} | {ratio:.3f} |", flush=True)
            worst = max(worst, ratio)
    return 1 if worst > MAX_RATIO else 0


if __name__ == "__main__":
    raise SystemExit(main())
