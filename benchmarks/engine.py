"""Compare the throughput of the engine, with tracking, and of other training loops: `python -m benchmarks.engine`.

In each round every contender trains on the same number of samples in its own process (the allocator's settings
can't be undone), in turn. Ratios are taken within a round; median and range over the rounds are printed.

(a) bare:      the eager loop as people write it, tensors in memory, shuffled by index
(b) limit:     the same loop with the engine's settings: allocator, channels-last, foreach optimiser
engine:        engine.fit on the Arrow file, with journal and checkpoints, mirrored to MLflow by a second thread
pair:          the same on two workers of one thread each, which exchange their gradients through shared memory
sockets:       the same over loopback, as between machines
lightning, accelerate: their loops over a TensorDataset DataLoader; textbook: a Dataset with per-sample transforms
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import race

if TYPE_CHECKING:
    from components.training.peers import Peers

BATCH, CLASSES, SIDE = 128, 10, 28
SYSTEMS = ("lenet", "resnet")
CONTENDERS = ("bare", "limit", "engine", "pair", "sockets", "lightning", "accelerate", "textbook")
WITH_PRECISION = CONTENDERS[:5]  # contenders whose precision can be chosen


def pictures(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return random uint8 pictures [N, 28, 28, 1] and labels [N] that a network can learn."""
    random = np.random.default_rng(0)
    labels = random.integers(0, CLASSES, count)
    images = random.integers(0, 128, (count, SIDE, SIDE, 1), dtype=np.uint8)
    images[np.arange(count), labels * 2] += 100
    return images, labels.astype(np.int64)


def network(system: str) -> Any:
    """Return the system's network, initialised from seed 0."""
    import torch

    from components.models.lenet import LeNet
    from components.models.resnet import ResNet
    from components.models.softmax import Softmax

    torch.manual_seed(0)
    shape = {"channels": 1, "size": (SIDE, SIDE), "classes": CLASSES}
    if system == "linear":  # of benchmarks.scaling
        return Softmax(**shape)
    return LeNet(**shape) if system == "lenet" else ResNet(**shape, widths=[32, 64, 128], blocks=1, stem="cifar")


def tensors(count: int) -> tuple[Any, Any]:
    """Return the pictures as float tensors [N, 1, 28, 28] and the labels [N]."""
    import torch

    images, labels = pictures(count)
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().div(255).contiguous(), torch.from_numpy(labels)


# ------------------------------------------------------------------------------------------------ contenders


def bare(system: str, count: int, precision: str, tuned: bool = False) -> Callable[[], None]:
    """Return an epoch of the plain loop; tuned: with the engine's settings."""
    import torch
    from torch.nn.functional import cross_entropy

    from components.cluster import allocator

    x, y = tensors(count)
    net = network(system)
    if tuned:
        allocator.keep_freed_memory()
        net = net.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(net.parameters(), 0.01, 0.9, foreach=tuned or None)

    def run_epoch() -> None:
        net.train()
        order = torch.randperm(count)
        for start in range(0, count - BATCH + 1, BATCH):
            index = order[start : start + BATCH]
            with torch.autocast("cpu", torch.bfloat16, enabled=tuned and precision == "bfloat16"):
                loss = cross_entropy(net(x[index]), y[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if (start // BATCH) % 10 == 0:
                loss.item()

    return run_epoch


def engine(system: str, count: int, precision: str, peers: Peers | None = None) -> Callable[[], None]:
    """Return an epoch of this project's engine."""
    import torch

    from components import optimizers
    from components.cluster import allocator
    from components.runs.description import describe_run
    from components.storage.feed import Feed
    from components.storage.store import Column, Store, write_manifest, write_part
    from components.tasks.classification import Classification
    from components.tracking import mirror
    from components.training.engine import fit
    from components.training.task import Spec

    allocator.keep_freed_memory()
    folder = Path(tempfile.mkdtemp(prefix="trainyard-bench-"))
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
    images, labels = pictures(count)

    class Pictures:
        name, licence, source, classes = "random", "none", "drawn", [str(i) for i in range(CLASSES)]
        columns = {"image": Column("uint8", (SIDE, SIDE, 1)), "label": Column("int64", ())}  # noqa: RUF012

    rows = ({"image": image, "label": label} for image, label in zip(images, labels, strict=True))
    part = write_part(folder / "train-000.arrow", Pictures.columns, rows)
    write_manifest(folder, Pictures(), {"train": [part]})
    spec = Spec({"image": (SIDE, SIDE, 1)}, tuple(Pictures.classes), {"mean": [0.3], "std": [0.2]})
    task = Classification(partial(_prebuilt, system), partial(optimizers.sgd, lr=0.01, momentum=0.9))
    feed = Feed(Store(folder).split("train"))
    runs = iter(range(1000))
    if peers is None or peers.rank == 0:
        mirror.Mirror(folder).start()
    options = {"epochs": 1, "batch": BATCH, "precision": precision, "shards": peers.size if peers else 1}

    def run_epoch() -> None:
        run = folder / f"run-{next(runs)}"
        describe_run(run, run.name, "bench", params={"system": system})
        fit(task, spec, feed, folder=run, peers=peers, **options)

    torch.manual_seed(0)
    return run_epoch


def pair(peers: Peers, system: str, count: int, precision: str, stdin: int, shares: bool) -> None:
    """Serve as one of two workers; the first reads from `stdin` when to run an epoch.

    stdin: a file descriptor, since a forked process has no standard input.
    """
    peers.shares_memory = shares
    run_epoch = engine(system, count, precision, peers)

    def run_together() -> None:
        peers.broadcast(True)
        run_epoch()

    if peers.rank == 0:
        race.serve(run_together, os.fdopen(stdin))
        peers.broadcast(False)
    else:
        while peers.broadcast(None):
            run_epoch()


def _prebuilt(system: str, **shape: Any) -> Any:
    return network(system)


def lightning(system: str, count: int, precision: str) -> Callable[[], None]:
    """Return an epoch of Lightning's trainer."""
    import logging
    import warnings

    import lightning as pl
    import torch
    from torch.nn.functional import cross_entropy
    from torch.utils.data import DataLoader, TensorDataset

    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = network(system)

        def training_step(self, batch: Any, index: int) -> Any:
            loss = cross_entropy(self.net(batch[0]), batch[1])
            self.log("loss", loss)
            return loss

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 0.01, 0.9)

    loader = DataLoader(TensorDataset(*tensors(count)), BATCH, shuffle=True, drop_last=True)
    folder = tempfile.mkdtemp(prefix="trainyard-bench-")
    module = Module()

    def run_epoch() -> None:
        trainer = pl.Trainer(
            max_epochs=1,
            accelerator="cpu",
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
            logger=False,
        )
        trainer.fit(module, loader)

    return run_epoch


def accelerate(system: str, count: int, precision: str) -> Callable[[], None]:
    """Return an epoch of a loop with Accelerate."""
    import torch
    from accelerate import Accelerator
    from torch.nn.functional import cross_entropy
    from torch.utils.data import DataLoader, TensorDataset

    accelerator = Accelerator(cpu=True)
    net = network(system)
    optimizer = torch.optim.SGD(net.parameters(), 0.01, 0.9)
    loader = DataLoader(TensorDataset(*tensors(count)), BATCH, shuffle=True, drop_last=True)
    net, optimizer, loader = accelerator.prepare(net, optimizer, loader)

    def run_epoch() -> None:
        net.train()
        for x, y in loader:
            loss = cross_entropy(net(x), y)
            optimizer.zero_grad()
            accelerator.backward(loss)
            optimizer.step()

    return run_epoch


def textbook(system: str, count: int, precision: str) -> Callable[[], None]:
    """Return an epoch of the loop of textbooks, which transforms each sample by itself."""
    import torch
    from torch.nn.functional import cross_entropy
    from torch.utils.data import DataLoader, Dataset
    from torchvision.transforms import Compose, Normalize, ToTensor

    images, labels = pictures(count)
    transform = Compose([ToTensor(), Normalize([0.3], [0.2])])

    class Pictures(Dataset):
        def __len__(self) -> int:
            return count

        def __getitem__(self, index: int) -> tuple[Any, int]:
            return transform(images[index]), int(labels[index])

    net = network(system)
    optimizer = torch.optim.SGD(net.parameters(), 0.01, 0.9)
    loader = DataLoader(Pictures(), BATCH, shuffle=True, drop_last=True)

    def run_epoch() -> None:
        net.train()
        for x, y in loader:
            loss = cross_entropy(net(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return run_epoch


MAKERS: dict[str, Callable[..., Callable[[], None]]] = {
    "bare": bare,
    "limit": partial(bare, tuned=True),
    "engine": engine,
    "lightning": lightning,
    "accelerate": accelerate,
    "textbook": textbook,
}


# ------------------------------------------------------------------------------------------------ rounds


def serve(contender: str, system: str, count: int, precision: str) -> None:
    """Build a contender and run its epochs on demand, in its own process."""
    if contender in ("pair", "sockets"):
        from components.training import peers

        return peers.fork_workers(pair, 2, system, count, precision, os.dup(0), contender == "pair")
    return race.serve(MAKERS[contender](system, count, precision))


def measure_speeds(
    system: str, precision: str, names: tuple[str, ...], rounds: int, count: int
) -> dict[str, list[float]]:
    """Return {contender: samples per second in each round}."""
    commands = {n: ["benchmarks.engine", "--serve", n, system, str(count), precision] for n in names}
    samples = count // BATCH * BATCH
    return {n: [samples / seconds for seconds in times] for n, times in race.race(commands, rounds).items()}


def print_table(system: str, precision: str, speeds: dict[str, list[float]]) -> None:
    """Print the speeds and their ratios to the two plain loops."""
    print(f"\n{system}, {precision}, batch {BATCH}\n")
    print("| contender | samples/s | of (a) bare | of (b) limit |\n|---|---|---|---|")
    for name, values in speeds.items():
        cells = [f"{statistics.median(values):,.0f}"]
        for base in ("bare", "limit"):
            ratios = [v / b for v, b in zip(values, speeds[base], strict=True)]
            cells.append(race.median_and_range(ratios, 2))
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Print a table per system and precision."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--serve", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=CONTENDERS, help="beside bare and limit")
    parser.add_argument("--seconds", type=float, default=4.0, help="approximate duration of one epoch")
    arguments = parser.parse_args()
    if arguments.serve:
        contender, system, count, precision = arguments.serve
        return serve(contender, system, int(count), precision)
    bfloat16 = "avx512_bf16" in Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else False
    names = tuple(name for name in CONTENDERS if name in {"bare", "limit", *arguments.contenders})
    for system, speed in (("lenet", 9000), ("resnet", 900)):
        count = int(speed * arguments.seconds) // BATCH * BATCH
        print_table(system, "float32", measure_speeds(system, "float32", names, arguments.rounds, count))
        if system == "resnet" and bfloat16:
            chosen = tuple(name for name in names if name in WITH_PRECISION)
            print_table(system, "bfloat16", measure_speeds(system, "bfloat16", chosen, arguments.rounds, count))
    return None


if __name__ == "__main__":
    main()
