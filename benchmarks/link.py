"""Measure the exchange of gradients over a slow link, whole and overlapping: `python -m benchmarks.link` (as root).

Each worker runs in a network namespace of its own; a bridge joins them, and each one's link is limited to RATE. The
batch is chosen so that computing takes about as long as exchanging. Per model and number of workers the table shows
seconds per step without an exchange, with a whole one, with an overlapping one, and with sharded moments, the peak
memory of a worker (MiB), and whether all ways end with the same bytes. The exit code is 1 if they do not.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

RATE = 100  # Mbit/s
STEPS = 4  # measured, after one to warm up
WORKERS = (2, 4)
WAYS = ("whole", "overlapping", "sharded")
MODELS = ("resnet", "bert")
BRIDGE = "trainyard-link"


def namespace(rank: int) -> str:
    """Return the name of a worker's namespace."""
    return f"{BRIDGE}-{rank}"


def run_ip(*arguments: str) -> None:
    """Run `ip` of iproute2."""
    subprocess.run(["ip", *arguments], check=True)


@contextmanager
def join_namespaces(size: int) -> Iterator[None]:
    """Create a namespace per worker, 10.231.0.1 and up, on one bridge; what each sends is limited to RATE."""
    try:
        run_ip("link", "add", BRIDGE, "type", "bridge")
        run_ip("link", "set", BRIDGE, "up")
        for rank in range(size):
            name, outer = namespace(rank), f"tyl{rank}"
            run_ip("netns", "add", name)
            run_ip("link", "add", outer, "type", "veth", "peer", "name", "eth0", "netns", name)
            run_ip("link", "set", outer, "master", BRIDGE, "up")
            run_ip("-n", name, "address", "add", f"10.231.0.{rank + 1}/24", "dev", "eth0")
            run_ip("-n", name, "link", "set", "eth0", "up")
            run_ip("-n", name, "link", "set", "lo", "up")
            limit = ["rate", f"{RATE}mbit", "burst", "64kb", "latency", "200ms"]
            subprocess.run(["tc", "-n", name, "qdisc", "add", "dev", "eth0", "root", "tbf", *limit], check=True)
        yield
    finally:
        for rank in range(size):
            with suppress(subprocess.CalledProcessError):
                run_ip("netns", "delete", namespace(rank))
        with suppress(subprocess.CalledProcessError):
            run_ip("link", "delete", BRIDGE)


def work(model: str, way: str, rank: int, size: int, batch: int, folder: str) -> None:
    """Train as worker `rank`; print {seconds, digest, peak} as rank 0, peak as any other."""
    import torch

    from components import optimizers
    from components.training.peers import join_group
    from components.training.rendezvous import Rendezvous
    from components.training.task import State
    from components.training.update import ShardedUpdate

    torch.set_num_threads(1)
    torch.manual_seed(0)
    net, make_batch, loss = {"resnet": resnet, "bert": bert}[model]()
    peers = join_group(rank, size, Rendezvous("benchmark", folder=folder), torch.device("cpu"))
    peers.shares_memory = False
    state = State({"net": net}, optimizers={"net": optimizers.adamw(net.parameters())})
    moments = "sharded" if way == "sharded" else "replicated"
    update = ShardedUpdate(state, peers, shards=max(WORKERS), moments=moments)
    if way == "whole":
        update._overlaps = lambda name: False  # type: ignore[method-assign]
    seconds = []
    for step in range(STEPS + 1):
        batches = [make_batch(batch, step * max(WORKERS) + index) for index in update.own_shards]
        update.begin(batches, [batch] * max(WORKERS))
        peers.gather(None)
        started = time.perf_counter()
        update("net", loss)
        seconds.append(time.perf_counter() - started)
    digest = hashlib.sha256(b"".join(v.numpy().tobytes() for v in net.state_dict().values())).hexdigest()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": sorted(seconds[1:])[STEPS // 2], "digest": digest, "peak": peak}), flush=True)
    os._exit(0)


def resnet() -> tuple:
    """Return a ResNet-18 of half width (2.8 million parameters), its batches and its loss."""
    import torch
    from torch.nn import functional as F

    from components.models.resnet import ResNet

    def make_batch(rows: int, seed: int) -> dict:
        generator = torch.Generator().manual_seed(seed)
        image = torch.randn(rows, 3, 32, 32, generator=generator)
        return {"image": image, "label": torch.randint(10, (rows,), generator=generator)}

    def loss(state, shard) -> tuple:
        return F.cross_entropy(state.modules["net"](shard.batch["image"]), shard.batch["label"]), {}

    return ResNet(3, (32, 32), 10, widths=[32, 64, 128, 256], stem="cifar"), make_batch, loss


def bert() -> tuple:
    """Return a small BERT (4 x 256, 5 million parameters) that names masked tokens, its batches and its loss."""
    import torch
    from torch.nn import functional as F

    from components.models.bert import BERT, PretrainingNet

    def make_batch(rows: int, seed: int) -> dict:
        generator = torch.Generator().manual_seed(seed)
        tokens = torch.randint(5, 8000, (rows, 64), generator=generator)
        return {"tokens": tokens, "positions": torch.arange(0, 64, 6).expand(rows, -1)}

    def loss(state, shard) -> tuple:
        tokens, positions = shard.batch["tokens"], shard.batch["positions"]
        valid = torch.ones_like(tokens, dtype=torch.bool)
        logits, _, _ = state.modules["net"](tokens, torch.zeros_like(tokens), valid, positions)
        return F.cross_entropy(logits.flatten(0, 1), tokens.gather(1, positions).flatten()), {}

    body = BERT(8000, width=256, layers=4, heads=4, inner=1024, positions=64, dropout=0.0)
    return PretrainingNet(body), make_batch, loss


def run_workers(model: str, way: str, size: int, batch: int) -> list[dict]:
    """Return what the workers print, by rank."""
    folder = tempfile.mkdtemp()
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "eth0" if size > 1 else "lo", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "benchmarks.link", model, way]
    processes = []
    for rank in range(size):
        inside = ["ip", "netns", "exec", namespace(rank)] if size > 1 else []
        arguments = [*inside, *command, str(rank), str(size), str(batch), folder]
        processes.append(subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=environment))
    try:
        return [json.loads(process.communicate(timeout=600)[0]) for process in processes]
    finally:
        for process in processes:
            process.kill()
        shutil.rmtree(folder, ignore_errors=True)


def choose_batch(model: str, size: int, parameters: int) -> int:
    """Return the rows per shard with which computing takes as long as exchanging."""
    exchange = 2 * (size - 1) / size * 4 * parameters * 8 / (RATE * 1e6)
    rows = 4
    seconds = run_workers(model, "whole", 1, rows)[0]["seconds"]
    share = max(WORKERS) / min(size, os.cpu_count() or 1)  # of the shards' time that passes on this machine
    return max(1, round(rows * exchange / (seconds / max(WORKERS) * share)))


def main() -> int:
    """Measure every model on every number of workers; return the exit code."""
    if os.geteuid() or not shutil.which("tc"):
        print("benchmarks.link needs root and iproute2 (ip, tc): not measured", file=sys.stderr)
        return 0
    equal = True
    print("| model | workers | rows per shard | whole, s | overlapping, s | ratio | sharded, s | MiB | MiB, sharded |")
    print("|---|---|---|---|---|---|---|---|---|")
    for model in MODELS:
        parameters = sum(p.numel() for p in {"resnet": resnet, "bert": bert}[model]()[0].parameters())
        for size in WORKERS:
            batch = choose_batch(model, size, parameters)
            with join_namespaces(size):
                results = {way: run_workers(model, way, size, batch) for way in WAYS}
            seconds = {way: results[way][0]["seconds"] for way in WAYS}
            peaks = {way: max(worker["peak"] for worker in results[way]) for way in WAYS}
            equal &= len({worker["digest"] for way in WAYS for worker in results[way]}) == 1
            ratio = seconds["whole"] / seconds["overlapping"]
            times = " | ".join(f"{value:.2f}" for value in [*list(seconds.values())[:2], ratio, seconds["sharded"]])
            memory = f"{peaks['whole']:.0f} | {peaks['sharded']:.0f}"
            print(f"| {model} | {size} | {batch} | {times} | {memory} |", flush=True)
    print("all ways end with the same bytes" if equal else "THE BYTES DIFFER")
    return 0 if equal else 1


if __name__ == "__main__":
    if len(sys.argv) > 1:
        model, way, rank, size, batch, folder = sys.argv[1:]
        work(model, way, int(rank), int(size), int(batch), folder)
    raise SystemExit(main())
