"""Compare 1, 2 and 4 workers of one thread on this machine with a model of their cost: `python -m benchmarks.scaling`.

The model (docs/operations.md): a step takes a worker `shards / workers * shard + fixed + exchange`. The first two
costs are fitted to steps of 2 and of 4 shards in two processes that know nothing of each other, so that both
processors are as busy as later; the third to exchanges on two workers that do nothing else. What follows for 2 and 4
workers is compared with what they take. All this is processor time without waiting, which other work on the machine
disturbs little. Waiting is a share of elapsed time, which it disturbs much.

The second table shows loops around a linear model, in processor time per step: what a step of `BATCH` examples costs
beside the arithmetic of a network. The engine's mirror to MLflow is a thread of the same process here.

The exit code is 1 if the model is wrong by more than 20 %, if other bytes are moved than it says, or if a step takes
the engine's thread 0.25 ms more than that of the bare loop. Arguments select parts: lenet, wide, loops.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from benchmarks.engine import BATCH, CLASSES, MAKERS, SIDE

if TYPE_CHECKING:
    from torch import Tensor, nn

    from components.training.peers import Peers

SHARDS, ROWS = 4, 32  # of a step, and of a shard
WARM_UP, STEPS, ROUNDS = 3, 20, 5
WORKERS = (2, 4)
TOLERANCE = 0.2
MODELS = ("lenet", "wide")  # little and much to exchange for their arithmetic
LOOPS = ("bare", "limit", "engine", "lightning", "accelerate")
LOOP_STEPS, LOOP_ROUNDS = 300, 12
ENGINE_COST = 0.25  # ms per step
Way = Literal["together", "alone", "exchange"]


def make_network(model: str) -> nn.Module:
    """Return the network: LeNet (61,706 parameters), or a wide hidden layer (1.6 million)."""
    import torch

    from components.models.lenet import LeNet
    from components.models.mlp import MLP

    torch.manual_seed(0)
    shape: dict[str, Any] = {"channels": 1, "size": (SIDE, SIDE), "classes": CLASSES}
    return LeNet(**shape) if model == "lenet" else MLP(**shape, hidden=[2048], dropout=0.0)


class Meter:
    """The processor time, the elapsed time, the waiting and the traffic of this worker."""

    def __init__(self) -> None:
        """Count what passes through the memory that workers share."""
        from components.training.shared_memory import SharedMemory

        self.waited_cpu = self.waited = 0.0
        self.moved = 0
        self._wrap(SharedMemory, "_wait_for_others", self._wait)
        self._wrap(SharedMemory, "all_to_all", self._count_rows)
        self._wrap(SharedMemory, "all_gather", self._count_parts)

    def _wrap(self, owner: type, name: str, around: Callable[..., Any]) -> None:
        original = getattr(owner, name)
        setattr(owner, name, lambda memory, *arguments: around(original, memory, *arguments))

    def _wait(self, original: Callable[..., Any], memory: Any) -> None:
        cpu, now = time.thread_time(), time.perf_counter()
        original(memory)
        self.waited_cpu += time.thread_time() - cpu
        self.waited += time.perf_counter() - now

    def _count_rows(self, original: Callable[..., Any], memory: Any, values: Tensor, rows: list[int]) -> Any:
        received = sum(rows) - rows[memory.rank]
        self.moved += received * values.shape[2] * values.element_size()
        return original(memory, values, rows)

    def _count_parts(self, original: Callable[..., Any], memory: Any, part: Tensor) -> Any:
        self.moved += (memory.size - 1) * part.numel() * part.element_size()
        return original(memory, part)

    def measure(self, step: Callable[[], Any], peers: Peers) -> dict[str, float]:
        """Return {ms, bytes, waiting} per step: median processor time without waiting, received bytes, share waited."""
        for _ in range(WARM_UP):
            step()
        self.waited_cpu = self.waited = self.moved = 0
        peers.gather(None)
        start, times = time.perf_counter(), []
        for _ in range(STEPS):
            before = time.thread_time() - self.waited_cpu
            step()
            times.append(time.thread_time() - self.waited_cpu - before)
        waiting = self.waited / (time.perf_counter() - start)
        return {"ms": 1e3 * statistics.median(times), "bytes": self.moved / STEPS, "waiting": waiting}


def work(others: Peers, model: str, shards: int, way: Way, file: str) -> None:
    """Train together, or alone beside the others, or only exchange vectors of the gradients' length; rank 0 writes."""
    import torch
    from torch.nn import functional as F

    from components import optimizers
    from components.cluster import allocator
    from components.training.peers import Peers
    from components.training.task import State
    from components.training.update import ShardedUpdate

    peers = Peers() if way == "alone" else others
    allocator.keep_freed_memory()
    net = make_network(model)
    state = State({"net": net}, optimizers={"net": optimizers.sgd(net.parameters(), lr=0.01, momentum=0.9)})
    update = ShardedUpdate(state, peers, shards=shards)
    image = torch.randn(ROWS, 1, SIDE, SIDE)
    batch = {"image": image, "label": torch.arange(ROWS) % CLASSES}

    def loss(state: State, shard: Any) -> tuple[Tensor, dict[str, Tensor]]:
        return F.cross_entropy(state.modules["net"](shard.batch["image"]), shard.batch["label"]), {}

    vector = [torch.zeros_like(p) for p in net.parameters()]

    def step() -> None:
        update.begin([batch] * len(update.own_shards), [ROWS] * shards)
        if way == "exchange":
            update.mean(lambda state, shard: vector)
        else:
            update("net", loss)

    everyone = others.gather(Meter().measure(step, others))
    if others.rank == 0:
        Path(file).write_text(json.dumps(everyone))


def measure(model: str, workers: int, shards: int, way: Way = "together") -> dict[str, float]:
    """Return {ms, bytes, waiting} per step, the mean over the workers."""
    from components.training.peers import fork_workers

    with tempfile.TemporaryDirectory() as folder:
        file = f"{folder}/results.json"
        fork_workers(work, workers, model, shards, way, file)
        results = json.loads(Path(file).read_text())
    return {name: statistics.mean(result[name] for result in results) for name in results[0]}


def compare_workers(model: str) -> bool:
    """Print a row per number of workers; return whether the model predicts all of them."""
    cases: dict[str, tuple[int, int, Way]] = {
        "half": (2, SHARDS // 2, "alone"),
        "full": (2, SHARDS, "alone"),
        "no exchange": (1, 1, "exchange"),
        "exchange": (2, 2, "exchange"),
        **{str(workers): (workers, SHARDS, "together") for workers in (1, *WORKERS)},
    }
    rounds = [{name: measure(model, *case) for name, case in cases.items()} for _ in range(ROUNDS)]
    means = {n: {key: statistics.median(r[n][key] for r in rounds) for key in rounds[0][n]} for n in cases}
    shard = (means["full"]["ms"] - means["half"]["ms"]) / (SHARDS - SHARDS // 2)
    fixed = means["full"]["ms"] - SHARDS * shard
    exchange = means["exchange"]["ms"] - means["no exchange"]["ms"]
    size = 4 * sum(p.numel() for p in make_network(model).parameters())
    alone = means["1"]["ms"]
    print(f"\n{model}: shard {shard:.2f} ms, fixed {fixed:.2f} ms, exchange {exchange:.2f} ms\n")
    print("| network | workers | ms | predicted | ratio | efficiency | MB moved | predicted | waiting |")
    print("|---|---|---|---|---|---|---|---|---|")
    print(f"| {model} | 1 | {alone:.2f} | {SHARDS * shard + fixed:.2f} | | 1 | 0 | 0 | 0% |")
    is_right = True
    for workers in WORKERS:
        result = means[str(workers)]
        predicted = SHARDS / workers * shard + fixed + exchange
        moved = 2 * size * (workers - 1) / workers
        ratio, efficiency = result["ms"] / predicted, alone / (workers * result["ms"])
        # the loss travels with the gradients
        is_right &= abs(ratio - 1) <= TOLERANCE and abs(result["bytes"] - moved) <= 0.01 * moved
        cells = [f"{result['ms']:.2f}", f"{predicted:.2f}", f"{ratio:.2f}", f"{efficiency:.2f}"]
        cells += [f"{result['bytes'] / 1e6:.3f}", f"{moved / 1e6:.3f}", f"{result['waiting']:.0%}"]
        print(f"| {model} | {workers} | {' | '.join(cells)} |", flush=True)
    return is_right


def time_loop(name: str) -> None:
    """Print processor times per step of a loop around a linear model, in ms: its thread's least, its process's mean."""
    import torch

    torch.set_num_threads(1)
    epoch = MAKERS[name]("linear", LOOP_STEPS * BATCH, "float32")
    epoch()
    times, start = [], time.process_time()
    for _ in range(LOOP_ROUNDS):
        before = time.thread_time()
        epoch()
        times.append(time.thread_time() - before)
    total = time.process_time() - start
    print(json.dumps([1e3 * min(times) / LOOP_STEPS, 1e3 * total / LOOP_ROUNDS / LOOP_STEPS]), flush=True)


def compare_loops() -> bool:
    """Print a row per loop; return whether the engine's fixed cost is small."""
    print("\n| loop | ms per step | beside the bare loop | whole process |\n|---|---|---|---|")
    times: dict[str, float] = {}
    for name in LOOPS:
        command = [sys.executable, "-m", "benchmarks.scaling", "--loop", name]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        times[name], process = json.loads(output.splitlines()[-1])
        print(f"| {name} | {times[name]:.3f} | {times[name] - times['bare']:+.3f} | {process:.3f} |", flush=True)
    return times["engine"] - times["bare"] <= ENGINE_COST


def main() -> int:
    """Print the tables; return the exit code."""
    if sys.argv[1:2] == ["--loop"]:
        time_loop(sys.argv[2])
        return 0
    parts = sys.argv[1:] or [*MODELS, "loops"]
    results = [compare_workers(model) for model in MODELS if model in parts]
    if "loops" in parts:
        results.append(compare_loops())
    return 0 if all(results) else 1


if __name__ == "__main__":
    raise SystemExit(main())
