"""Measure augmented pictures per second, by batch and one by one: `python -m benchmarks.augmentation`.

All contenders apply the same three transforms (random resized crop, flip, colour jitter) to uint8 colour pictures in
memory, in batches of 128:

batch:     components.augment on the batch, in the training process, as the engine does it (2 threads)
tensors:   a DataLoader with 2 workers that calls torchvision's v2 transforms on each picture as a uint8 tensor
pillow:    the same on each picture as a Pillow image, which is what decoders return
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import race

BATCH, CORES = 128, 2
CONTENDERS = ("batch", "tensors", "pillow")
JITTER = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}


def pictures(side: int, count: int) -> np.ndarray:
    """Return random uint8 pictures [count, side, side, 3]."""
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def augment_batches(side: int, count: int) -> Callable[[], None]:
    """Return a function that augments all pictures once, batch by batch."""
    import torch

    from components.augment.crop import RandomResizedCrop
    from components.augment.flip import RandomHorizontalFlip
    from components.augment.jitter import ColorJitter
    from components.cluster import allocator

    allocator.keep_freed_memory()
    torch.set_num_threads(CORES)
    images = pictures(side, count)
    transforms = [RandomResizedCrop(), RandomHorizontalFlip(), ColorJitter(**JITTER)]
    generator = torch.Generator().manual_seed(0)

    def run_epoch() -> None:
        order = np.random.default_rng(0).permutation(count)
        for start in range(0, count, BATCH):
            out = torch.from_numpy(images[order[start : start + BATCH]]).permute(0, 3, 1, 2).float().div_(255)
            for transform in transforms:
                out = transform(out, generator)

    return run_epoch


def load_batches(side: int, count: int, pillow: bool) -> Callable[[], None]:
    """Return a function that loads all pictures once through a DataLoader."""
    import torch
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset
    from torchvision.transforms import v2

    # Pillow always antialiases; tensors are faster without.
    crop = v2.RandomResizedCrop(side, antialias=pillow)
    changes = [crop, v2.RandomHorizontalFlip(), v2.ColorJitter(**JITTER)]
    transform = v2.Compose([*changes, *([v2.ToImage()] if pillow else []), v2.ToDtype(torch.float32, scale=True)])
    images = pictures(side, count)
    originals: list[Any] = [Image.fromarray(i) if pillow else torch.from_numpy(i).permute(2, 0, 1) for i in images]

    class Pictures(Dataset):
        def __len__(self) -> int:
            return count

        def __getitem__(self, index: int) -> Any:
            return transform(originals[index])

    batches = DataLoader(Pictures(), BATCH, shuffle=True, num_workers=CORES, persistent_workers=True)

    def run_epoch() -> None:
        for _ in batches:
            pass

    return run_epoch


def serve(contender: str, side: int, count: int) -> None:
    """Build a contender and run its epochs on demand, in its own process."""
    if contender == "batch":
        race.serve(augment_batches(side, count))
    else:
        race.serve(load_batches(side, count, contender == "pillow"))


def measure_speeds(side: int, rounds: int, counts: dict[str, int]) -> dict[str, list[float]]:
    """Return {contender: pictures per second in each round}."""
    commands = {n: ["benchmarks.augmentation", "--serve", n, str(side), str(counts[n])] for n in CONTENDERS}
    return {n: [counts[n] / seconds for seconds in times] for n, times in race.race(commands, rounds).items()}


def main() -> None:
    """Print a table per picture size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.5, help="approximate duration of a round of one contender")
    arguments = parser.parse_args()
    if arguments.serve:
        return serve(arguments.serve[0], int(arguments.serve[1]), int(arguments.serve[2]))
    for side in (32, 64):
        guess = {"batch": 40_000, "tensors": 3_000, "pillow": 6_000}  # pictures of 32 x 32 per second
        counts = {n: max(1, int(v * arguments.seconds * 32 / side) // BATCH) * BATCH for n, v in guess.items()}
        speeds = measure_speeds(side, arguments.rounds, counts)
        print(f"\n{side} x {side}, {CORES} cores\n\n| contender | pictures/s | batch is faster by |\n|---|---|---|")
        for name, values in speeds.items():
            ratios = [ours / other for ours, other in zip(speeds["batch"], values, strict=True)]
            print(f"| {name} | {statistics.median(values):,.0f} | {race.median_and_range(ratios, 1)} |", flush=True)
    return None


if __name__ == "__main__":
    main()
