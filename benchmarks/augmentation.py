"""Augmented pictures a second: the batch at once against one by one: `python -m benchmarks.augmentation`.

The same three transforms (random resized crop, flip, colour jitter) on uint8 colour pictures in memory, batch 128:

batch:     components.augment on the whole batch, in the training process, as the engine does it (2 threads)
tensors:   a DataLoader with 2 workers that calls torchvision's v2 transforms on each picture as a uint8 tensor
pillow:    the same on each picture as a Pillow image, decoded pictures being Pillow images
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
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def batch(side: int, count: int) -> Callable[[], None]:
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

    def epoch() -> None:
        order = np.random.default_rng(0).permutation(count)
        for start in range(0, count, BATCH):
            out = torch.from_numpy(images[order[start : start + BATCH]]).permute(0, 3, 1, 2).float().div_(255)
            for transform in transforms:
                out = transform(out, generator)

    return epoch


def loader(side: int, count: int, pillow: bool) -> Callable[[], None]:
    import torch
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset
    from torchvision.transforms import v2

    crop = v2.RandomResizedCrop(side, antialias=pillow)  # Pillow knows no other; without it tensors are faster
    changes = [crop, v2.RandomHorizontalFlip(), v2.ColorJitter(**JITTER)]
    transform = v2.Compose([*changes, *([v2.ToImage()] if pillow else []), v2.ToDtype(torch.float32, scale=True)])
    images = pictures(side, count)
    kept: list[Any] = [Image.fromarray(i) if pillow else torch.from_numpy(i).permute(2, 0, 1) for i in images]

    class Pictures(Dataset):
        def __len__(self) -> int:
            return count

        def __getitem__(self, index: int) -> Any:
            return transform(kept[index])

    batches = DataLoader(Pictures(), BATCH, shuffle=True, num_workers=CORES, persistent_workers=True)

    def epoch() -> None:
        for _ in batches:
            pass

    return epoch


def serve(contender: str, side: int, count: int) -> None:
    """In its own process: builds the contender, warms up, then runs one epoch for each line it is sent."""
    epoch = batch(side, count) if contender == "batch" else loader(side, count, contender == "pillow")
    race.serve(epoch)


def speeds_of(side: int, rounds: int, counts: dict[str, int]) -> dict[str, list[float]]:
    """Pictures a second of each contender in each round."""
    commands = {n: ["benchmarks.augmentation", "--serve", n, str(side), str(counts[n])] for n in CONTENDERS}
    return {n: [counts[n] / seconds for seconds in found] for n, found in race.race(commands, rounds).items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.5, help="about how long a round of one contender takes")
    given = parser.parse_args()
    if given.serve:
        return serve(given.serve[0], int(given.serve[1]), int(given.serve[2]))
    for side in (32, 64):
        guess = {"batch": 40_000, "tensors": 3_000, "pillow": 6_000}  # pictures a second of 32 x 32
        counts = {n: max(1, int(v * given.seconds * 32 / side) // BATCH) * BATCH for n, v in guess.items()}
        speeds = speeds_of(side, given.rounds, counts)
        print(f"\n{side} x {side}, {CORES} cores\n\n| contender | pictures/s | batch is faster by |\n|---|---|---|")
        for name, values in speeds.items():
            ratios = [ours / theirs for ours, theirs in zip(speeds["batch"], values, strict=True)]
            spread = f"{statistics.median(ratios):.1f} ({min(ratios):.1f}-{max(ratios):.1f})"
            print(f"| {name} | {statistics.median(values):,.0f} | {spread} |", flush=True)
    return None


if __name__ == "__main__":
    main()
