"""Throughput of the engine, tracking on, beside bare loops and peers: `python -m benchmarks.engine`.

In each round every contender trains for the same number of samples in a process of its own (the allocator's settings
can't be undone), in turn; ratios are taken within a round, and the median over rounds is printed with the range.

(a) bare:      the eager loop as people write it, tensors in memory, shuffled by index
(b) limit:     the same loop given the engine's settings: allocator, channels-last, foreach optimiser
engine:        engine.fit on the Arrow file, journal and checkpoints on, replayed to MLflow by a second thread
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

OURS = CONTENDERS[:5]  # whose precision can be chosen


def pictures(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Random uint8 pictures [N, 28, 28, 1] with labels a network can learn."""
    random = np.random.default_rng(0)
    labels = random.integers(0, CLASSES, count)
    images = random.integers(0, 128, (count, SIDE, SIDE, 1), dtype=np.uint8)
    images[np.arange(count), labels * 2] += 100
    return images, labels.astype(np.int64)


def network(system: str) -> Any:
    import torch

    from components.models.lenet import LeNet
    from components.models.resnet import ResNet

    torch.manual_seed(0)
    shape = {"channels": 1, "size": (SIDE, SIDE), "classes": CLASSES}
    return LeNet(**shape) if system == "lenet" else ResNet(**shape, widths=[32, 64, 128], blocks=1, stem="cifar")


def tensors(count: int) -> tuple[Any, Any]:
    import torch

    images, labels = pictures(count)
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().div(255).contiguous(), torch.from_numpy(labels)


# ------------------------------------------------------------------------------------------------ contenders


def bare(system: str, count: int, precision: str, ours: bool = False) -> Callable[[], None]:
    import torch
    from torch.nn.functional import cross_entropy

    from components.cluster import allocator

    x, y = tensors(count)
    net = network(system)
    if ours:
        allocator.keep_freed_memory()
        net = net.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(net.parameters(), 0.01, 0.9, foreach=ours or None)

    def epoch() -> None:
        net.train()
        order = torch.randperm(count)
        for start in range(0, count - BATCH + 1, BATCH):
            index = order[start : start + BATCH]
            with torch.autocast("cpu", torch.bfloat16, enabled=ours and precision == "bfloat16"):
                loss = cross_entropy(net(x[index]), y[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if (start // BATCH) % 10 == 0:
                loss.item()

    return epoch


def engine(system: str, count: int, precision: str, peers: Peers | None = None) -> Callable[[], None]:
    import torch

    from components import optimizers
    from components.cluster import allocator
    from components.runs import journal
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
        mirror.Mirror(folder).start()  # follows until the process ends
    options = {"epochs": 1, "batch": BATCH, "precision": precision, "shards": peers.size if peers else 1}

    def epoch() -> None:
        run = folder / f"run-{next(runs)}"
        journal.describe_run(run, run.name, "bench", params={"system": system})
        fit(task, spec, feed, folder=run, peers=peers, **options)

    torch.manual_seed(0)
    return epoch


def pair(peers: Peers, system: str, count: int, precision: str, stdin: int, shares: bool) -> None:
    """One of two workers; the first is told when to run an epoch (a forked process has no standard input)."""
    peers.shares_memory = shares
    epoch = engine(system, count, precision, peers)

    def together() -> None:
        peers.broadcast(True)
        epoch()

    if peers.rank == 0:
        race.serve(together, os.fdopen(stdin))
        peers.broadcast(False)
    else:
        while peers.broadcast(None):
            epoch()


def _prebuilt(system: str, **shape: Any) -> Any:
    return network(system)


def lightning(system: str, count: int, precision: str) -> Callable[[], None]:
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

    def epoch() -> None:
        trainer = pl.Trainer(
            max_epochs=1,
            accelerator="cpu",
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
            logger=False,
        )
        trainer.fit(module, loader)

    return epoch


def accelerate(system: str, count: int, precision: str) -> Callable[[], None]:
    import torch
    from accelerate import Accelerator
    from torch.nn.functional import cross_entropy
    from torch.utils.data import DataLoader, TensorDataset

    accelerator = Accelerator(cpu=True)
    net = network(system)
    optimizer = torch.optim.SGD(net.parameters(), 0.01, 0.9)
    loader = DataLoader(TensorDataset(*tensors(count)), BATCH, shuffle=True, drop_last=True)
    net, optimizer, loader = accelerator.prepare(net, optimizer, loader)

    def epoch() -> None:
        net.train()
        for x, y in loader:
            loss = cross_entropy(net(x), y)
            optimizer.zero_grad()
            accelerator.backward(loss)
            optimizer.step()

    return epoch


def textbook(system: str, count: int, precision: str) -> Callable[[], None]:
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

    def epoch() -> None:
        net.train()
        for x, y in loader:
            loss = cross_entropy(net(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return epoch


MAKERS: dict[str, Callable[..., Callable[[], None]]] = {
    "bare": bare,
    "limit": partial(bare, ours=True),
    "engine": engine,
    "lightning": lightning,
    "accelerate": accelerate,
    "textbook": textbook,
}


# ------------------------------------------------------------------------------------------------ rounds


def serve(contender: str, system: str, count: int, precision: str) -> None:
    if contender in ("pair", "sockets"):
        from components.training import peers

        return peers.fork_workers(pair, 2, system, count, precision, os.dup(0), contender == "pair")
    return race.serve(MAKERS[contender](system, count, precision))


def speeds_of(system: str, precision: str, names: tuple[str, ...], rounds: int, count: int) -> dict[str, list[float]]:
    """Samples a second of each contender in each round."""
    commands = {n: ["benchmarks.engine", "--serve", n, system, str(count), precision] for n in names}
    samples = count // BATCH * BATCH
    return {n: [samples / seconds for seconds in found] for n, found in race.race(commands, rounds).items()}


def table(system: str, precision: str, speeds: dict[str, list[float]]) -> None:
    print(f"\n{system}, {precision}, batch {BATCH}\n")
    print("| contender | samples/s | of (a) bare | of (b) limit |\n|---|---|---|---|")
    for name, values in speeds.items():
        cells = [f"{statistics.median(values):,.0f}"]
        for base in ("bare", "limit"):
            ratios = [v / b for v, b in zip(values, speeds[base], strict=True)]
            cells.append(f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--serve", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=CONTENDERS, help="beside bare and limit")
    parser.add_argument("--seconds", type=float, default=4.0, help="about how long one epoch takes")
    given = parser.parse_args()
    if given.serve:
        contender, system, count, precision = given.serve
        return serve(contender, system, int(count), precision)
    bfloat16 = "avx512_bf16" in Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else False
    names = tuple(name for name in CONTENDERS if name in {"bare", "limit", *given.contenders})
    for system, speed in (("lenet", 9000), ("resnet", 900)):
        count = int(speed * given.seconds) // BATCH * BATCH
        table(system, "float32", speeds_of(system, "float32", names, given.rounds, count))
        if system == "resnet" and bfloat16:
            ours = tuple(name for name in names if name in OURS)
            table(system, "bfloat16", speeds_of(system, "bfloat16", ours, given.rounds, count))
    return None


if __name__ == "__main__":
    main()
