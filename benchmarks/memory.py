"""Peak memory at once and ten times the data: `python -m benchmarks.memory`.

prepare: every glyph drawn and written, in one process; train: one epoch of the engine over the Arrow files. Each is
measured in a process of its own (`getrusage`, which also counts the file's pages that the system keeps mapped, and may
drop whenever it likes). Exits with 1 where ten times the data takes more than a tenth more memory.
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

PER_CLASS, TIMES, ALLOWED = 400, 10, 1.10


def prepare(folder: Path, per_class: int) -> int:
    from components.data.glyphs import Glyphs
    from components.storage.dataset import prepare_dataset

    manifest = prepare_dataset(Glyphs(per_class=per_class, validation=0), folder)
    return int(manifest["splits"]["train"]["rows"])


def train(folder: Path, per_class: int) -> int:
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
    """{examples, peak (MiB)} of a process of its own."""
    command = [sys.executable, "-m", "benchmarks.memory", "--one", name, str(folder), str(per_class)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        examples = MEASURED[given.one[0]](Path(given.one[1]), int(given.one[2]))
        unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
        print(json.dumps({"examples": examples, "peak": peak}))
        return 0
    worst = 0.0
    print("| process | examples | peak MiB | ten times the examples | peak MiB | ratio |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="trainyard-memory-") as folder:
        for name in MEASURED:
            one, ten = (measure(name, Path(folder) / str(n), n * PER_CLASS) for n in (1, TIMES))
            ratio = ten["peak"] / one["peak"]
            cells = [f"{m['examples']:,} | {m['peak']:.0f}" for m in (one, ten)]
            print(f"| {name} | {cells[0]} | {cells[1]} | {ratio:.3f} |", flush=True)
            worst = max(worst, ratio)
    return 1 if worst > ALLOWED else 0


if __name__ == "__main__":
    raise SystemExit(main())
