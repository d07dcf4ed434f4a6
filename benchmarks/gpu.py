"""Compare the throughput of the engine and of bare loops on a GPU: `python -m benchmarks.gpu` (10 minutes on an H100).

Each network trains at its textbook's size; all contenders take turns in one process. A figure is the median over
stretches of eight steps (an epoch), each of which ends by reading the loss. Ratios are taken within a round.

bare:      the eager loop as people write it: float pictures on the device, already enlarged and normalised
limit:     the same, channels-last, and cuDNN searches for its fastest kernels (which may not be deterministic)
engine:    engine.fit with its journal: bytes on the device, enlarged and normalised there, deterministic kernels
  4 shards: each batch in four, so that up to four workers could share it;  streamed: from the memory-mapped file
  augmented: random resized crops and flips, on the device
reference: the loader of torchvision's references/classification/train.py: each processor decodes, crops and flips
           picture by picture; in bfloat16 (its --amp) and with the same batch size
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

# The engine needs this setting, and it must be made before any contender starts.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks import race
from components import optimizers
from components.augment.crop import RandomResizedCrop
from components.augment.flip import RandomHorizontalFlip
from components.models.alexnet import AlexNet
from components.models.googlenet import GoogLeNet
from components.models.lenet import LeNet
from components.models.nin import NiN
from components.models.resnet import ResNet
from components.models.vgg import VGG
from components.runs import journal
from components.storage.dataset import prepare_dataset
from components.storage.feed import Feed
from components.storage.store import Column, Store
from components.tasks.classification import Classification
from components.training import engine
from components.training.peers import Peers
from components.training.task import Spec

STRETCH = 8  # steps per epoch, after which the loss is read
WARM_UP = 1  # stretches that are not measured
DEVICE = torch.device("cuda", 0)


@dataclass(frozen=True)
class Setting:
    """A network with its data: the side of a stored picture and of an input, channels, classes and batch size."""

    model: Callable[..., nn.Module]
    stored: int
    side: int
    channels: int = 1
    classes: int = 10
    batch: int = 128
    augment: tuple[Callable, ...] = ()

    def network(self) -> nn.Module:
        """Return the network, initialised from seed 0."""
        torch.manual_seed(0)
        return self.model(channels=self.channels, size=(self.side, self.side), classes=self.classes)


SETTINGS = {
    "lenet": Setting(LeNet, 28, 28),
    "alexnet": Setting(AlexNet, 28, 224),
    "vgg11-narrow": Setting(partial(VGG, widths=[16, 32, 64, 128, 128]), 28, 224),
    "vgg11": Setting(VGG, 28, 224),
    "nin": Setting(NiN, 28, 224),
    "googlenet": Setting(GoogLeNet, 28, 96),
    "resnet18": Setting(ResNet, 28, 96),
    "resnet18-cifar": Setting(partial(ResNet, stem="cifar"), 32, 32, channels=3, batch=512),
    "resnet18-224": Setting(
        ResNet, 224, 224, 3, 1000, 256, (RandomResizedCrop, RandomHorizontalFlip)
    ),
}  # fmt: skip
COMPILED = ("alexnet", "resnet18-cifar", "resnet18-224")


@dataclass
class Arena:
    """The data of one setting, in all forms that its contenders read, and the steps for which each of them trains."""

    setting: Setting
    steps: int
    folder: Path
    runs: Iterator[int] = field(default_factory=lambda: iter(range(10_000)))

    def __post_init__(self) -> None:
        rng, s = np.random.default_rng(0), self.setting
        count = STRETCH * s.batch
        self.labels = rng.integers(0, s.classes, count)
        self.images = rng.integers(0, 256, (count, s.stored, s.stored, s.channels), dtype=np.uint8)
        prepare_dataset(_Random(self.images, self.labels, s.classes), self.folder)
        self.spec = Spec({"image": self.images.shape[1:]}, tuple(map(str, range(s.classes))), self.statistics)

    @property
    def statistics(self) -> dict[str, list[float]]:
        """Return mean and standard deviation per channel."""
        return {"mean": [0.5] * self.setting.channels, "std": [0.29] * self.setting.channels}

    def tensors(self) -> tuple[Tensor, Tensor]:
        """Return float pictures [N, C, side, side] and labels [N], on the device."""
        x = torch.from_numpy(self.images).to(DEVICE).permute(0, 3, 1, 2).float().div_(255).sub_(0.5).div_(0.29)
        return F.interpolate(x, (self.setting.side,) * 2).contiguous(), torch.from_numpy(self.labels).to(DEVICE)

    def flops(self) -> float:
        """Return the operations of a training step per picture; the backward pass counts twice the forward pass."""
        from torch.utils.flop_counter import FlopCounterMode

        with FlopCounterMode(display=False) as counter, torch.no_grad():
            self.setting.network().eval()(torch.zeros(1, self.setting.channels, *[self.setting.side] * 2))
        return 3.0 * counter.get_total_flops()


class _Random:
    """A data set of random pictures [N, H, W, C] and labels [N]."""

    name, licence, source = "random", "none", "drawn"

    def __init__(self, images: np.ndarray, labels: np.ndarray, classes: int) -> None:
        self.images, self.labels, self.classes = images, labels, [str(i) for i in range(classes)]
        self.columns = {"image": Column("uint8", images.shape[1:]), "label": Column("int64")}

    def parts(self) -> dict[str, int]:
        """Return the number of parts per split."""
        return {"train": 1}

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
        """Yield the examples of a part."""
        for image, label in zip(self.images, self.labels, strict=True):
            yield {"image": image, "label": int(label)}


# ------------------------------------------------------------------------------------------------ contenders


def bare(arena: Arena, precision: str, tuned: bool = False) -> list[float]:
    """Return the samples per second of each stretch of the plain loop."""
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = tuned
    x, y = arena.tensors()
    net = arena.setting.network().to(DEVICE)
    if tuned:
        net, x = net.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
    batch = arena.setting.batch

    def shuffled_batches() -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            order = torch.randperm(len(x), device=DEVICE)
            for start in range(0, len(x) - batch + 1, batch):
                yield x[order[start : start + batch]], y[order[start : start + batch]]

    speeds = _loop(net, shuffled_batches(), arena.steps, batch, precision)
    torch.backends.cudnn.benchmark = False
    return speeds


def _loop(
    net: nn.Module, batches: Iterator[tuple[Tensor, Tensor]], steps: int, batch: int, precision: str
) -> list[float]:
    optimizer = torch.optim.SGD(net.parameters(), 0.01, 0.9, weight_decay=1e-4)
    speeds, started = [], time.perf_counter()
    net.train()
    for step, (images, labels) in zip(range(1, steps + 1), batches, strict=False):
        with torch.autocast("cuda", torch.bfloat16, enabled=precision == "bfloat16"):
            loss = F.cross_entropy(net(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % STRETCH == 0:
            loss.item()
            speeds.append(STRETCH * batch / (time.perf_counter() - started))
            started = time.perf_counter()
    return speeds


def ours(arena: Arena, precision: str, augment: tuple[Callable, ...] = (), resident: int = 8 << 30, **fit: Any) -> list:
    """Return the samples per second of each stretch, from the journal of `engine.fit`."""
    s = arena.setting
    resize = s.side if s.side != s.stored else None
    optimizer = partial(optimizers.sgd, lr=0.01, momentum=0.9, weight_decay=1e-4)
    task = Classification(s.model, optimizer, augment=list(augment), resize=resize)
    feed = Feed(Store(arena.folder).split("train"), None, DEVICE, resident)
    run = arena.folder / f"run-{next(arena.runs)}"
    run.mkdir()
    options = {"epochs": arena.steps, "batch": s.batch, "precision": precision, "log_every": STRETCH, **fit}
    engine.fit(task, arena.spec, feed, None, run, Peers(device=DEVICE), until=arena.steps, **options)
    return [r.payload["speed"] for r in journal.read_records(run / journal.LOG, "progress")]


def reference(arena: Arena, precision: str) -> list[float]:
    """Return the samples per second of torchvision's reference, which reads JPEG files in memory.

    The pictures are noise, which is slow to decode.
    """
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset
    from torchvision.transforms import v2

    files = []
    for image in arena.images:
        Image.fromarray(image).resize((500, 375)).save(file := io.BytesIO(), "JPEG")
        files.append(file.getvalue())
    steps = [v2.RandomResizedCrop(224, antialias=True), v2.RandomHorizontalFlip(), v2.PILToTensor()]
    steps += [v2.ToDtype(torch.float, scale=True), v2.Normalize([0.5] * 3, [0.29] * 3), v2.ToPureTensor()]
    transform, labels, count = v2.Compose(steps), arena.labels, arena.steps * arena.setting.batch

    class Pictures(Dataset):
        def __len__(self) -> int:
            return count

        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            picture = Image.open(io.BytesIO(files[index % len(files)])).convert("RGB")
            return transform(picture), int(labels[index % len(labels)])

    torch.use_deterministic_algorithms(False)
    loader = DataLoader(Pictures(), arena.setting.batch, num_workers=os.cpu_count() or 1, pin_memory=True)
    moved = ((x.to(DEVICE, non_blocking=True), y.to(DEVICE, non_blocking=True)) for x, y in loader)
    return _loop(arena.setting.network().to(DEVICE), moved, arena.steps, arena.setting.batch, precision)


def contenders(name: str, setting: Setting) -> dict[tuple[str, str], Callable[[Arena], list[float]]]:
    """Return {(contender, precision): its function}; the others are compared with `bare` of their precision."""
    functions: dict[tuple[str, str], Callable[[Arena], list[float]]] = {}
    for precision in ("bfloat16",) if setting.augment else ("float32", "bfloat16"):
        functions["bare", precision] = partial(bare, precision=precision)
        functions["limit", precision] = partial(bare, precision=precision, tuned=True)
        functions["engine", precision] = partial(ours, precision=precision)
    bf16 = "bfloat16"
    functions["engine, 4 shards", bf16] = partial(ours, precision=bf16, shards=4)
    if setting.augment:
        augmented = partial(ours, precision=bf16, augment=setting.augment)
        functions["engine, augmented", bf16] = augmented
        functions["engine, augmented, streamed", bf16] = partial(augmented, resident=0)
        functions["reference", bf16] = partial(reference, precision=bf16)
    if name in COMPILED:
        functions["engine, compiled", bf16] = partial(ours, precision=bf16, compile=True)
    return functions


# ------------------------------------------------------------------------------------------------ rounds


def measure(name: str, rounds: int, steps: int) -> None:
    """Print a table of the contenders of one setting."""
    setting = SETTINGS[name]
    speeds: dict[tuple[str, str], list[float]] = {}
    memory: dict[tuple[str, str], float] = {}
    with tempfile.TemporaryDirectory(prefix="trainyard-bench-") as folder:
        arena = Arena(setting, steps, Path(folder))
        racers, flops = contenders(name, setting), arena.flops()
        for number in range(rounds):
            for key, run in racers.items():
                if number and ("compiled" in key[0] or key[0] == "reference"):
                    continue  # slow to start, so measured once
                torch.cuda.reset_peak_memory_stats()
                speeds.setdefault(key, []).append(statistics.median(run(arena)[WARM_UP:]))
                print(f"{name}: {', '.join(key)}: {speeds[key][-1]:,.0f} samples/s", file=sys.stderr, flush=True)
                memory[key] = torch.cuda.max_memory_allocated() / 2**30
                torch.cuda.empty_cache()
    print(f"\n{name}: {setting.channels} x {setting.side} x {setting.side}, batch {setting.batch}\n")
    print("| contender | precision | samples/s | of bare | TFLOP/s | GiB |\n|---|---|---|---|---|---|")
    for (contender, precision), values in speeds.items():
        ratios = [v / b for v, b in zip(values, speeds["bare", precision], strict=False)]
        middle = statistics.median(values)
        ratio = race.median_and_range(ratios, 2)
        rate, peak = f"{middle * flops / 1e12:.0f}", f"{memory[contender, precision]:.1f}"
        print(f"| {contender} | {precision} | {middle:,.0f} | {ratio} | {rate} | {peak} |")
    print(flush=True)


def main() -> None:
    """Measure the networks named on the command line, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=list(SETTINGS), help=", ".join(SETTINGS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=40)
    arguments = parser.parse_args()
    if unknown := set(arguments.networks) - set(SETTINGS):
        parser.error(f"no network {', '.join(sorted(unknown))}; there are {', '.join(SETTINGS)}")
    if not torch.cuda.is_available():
        print("torch sees no GPU here: nothing to measure")
        return
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {os.cpu_count()} processors", flush=True)
    for name in arguments.networks:
        measure(name, arguments.rounds, arguments.steps)


if __name__ == "__main__":
    main()
