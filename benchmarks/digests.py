"""Check that a refactor changes no result: the digest of every system that the contract suite trains.

    python -m benchmarks.digests record digests.json     # before the change
    python -m benchmarks.digests compare digests.json    # after it, on the same machine; exit code 1 on a difference

A digest covers weights, optimiser state, tables and every metric of a small run on one worker and one thread. The file
also holds `metrics/evaluate.json` of the flagship, if it was run.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

EVALUATION = Path("metrics/evaluate.json")


def compute_digests() -> dict[str, str]:
    """Return {system: SHA-256} for every system of the contract suite, in its order."""
    import torch

    from components.training.peers import fork_workers
    from tests import test_contract

    torch.set_num_threads(1)
    digests = {}
    with tempfile.TemporaryDirectory() as folder:
        prepared = test_contract.PreparedData(Path(folder) / "prepared")
        for name in test_contract.SYSTEMS:
            out = Path(folder) / "runs" / name
            fork_workers(test_contract.train_system, 1, name, prepared[name], out)
            digests[name] = test_contract.read_result(out)[0]
            print(f"{name}: {digests[name][:16]}", flush=True)
    return digests


def main(verb: str, path: str) -> int:
    """Record the digests in the file at `path`, or compare them with it; return the exit code."""
    current = {
        "digests": compute_digests(),
        "evaluation": json.loads(EVALUATION.read_text()) if EVALUATION.is_file() else None,
    }
    if verb == "record":
        Path(path).write_text(json.dumps(current, indent=1) + "\n")
        return 0
    before = json.loads(Path(path).read_text())
    names = before["digests"].keys() | current["digests"].keys()
    different = sorted(n for n in names if before["digests"].get(n) != current["digests"].get(n))
    print(f"{len(names) - len(different)} of {len(names)} systems have the same digest")
    print(f"different: {', '.join(different) or 'none'}")
    same = before["evaluation"] == current["evaluation"]
    print(f"metrics/evaluate.json: {'same' if same else 'different'}")
    return int(bool(different) or not same)


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("record", "compare"):
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
