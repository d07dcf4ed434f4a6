"""Decode pictures once, on all processors, and describe what is odd about each and about the set."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..data.picture import (
    ANIMATED,
    FULL_SIZE,
    ORIENTATION,
    convert_to_plain,
    deep_mode,
    find_range,
    has_frames,
    open_picture,
    refuse_damage,
    suggest_levels,
    turn_upright,
)
from ..errors import Refusal, pluralize
from .findings import Progress, Sample, Tree

THUMBNAIL = 48  # pixels
SHEET = 24  # most pictures on the sheet
BLOCK = 256  # pictures per report of progress
ALIKE = 32  # side of the pictures whose equal pixels make a duplicate
ELONGATED = 0.3  # share of the pictures with sides of 1 to 2 or more from which they are not cut to squares


@dataclass(frozen=True)
class PictureFacts:
    """Facts that decoding a picture showed; `fault` says why it could not be decoded."""

    file: Path
    fault: str = ""
    size: tuple[int, int] = (0, 0)  # width, height, upright
    mode: str = ""
    turned: bool = False
    frames: bool = False
    levels: tuple[float, float] | None = None  # of more than 8 bits
    content: bytes = b""  # digest of the pixels at a small size, with the proportions

    @property
    def square(self) -> bool:
        """Return whether the sides are equal."""
        return self.size[0] == self.size[1]


def examine_pictures(files: Sequence[Path], progress: Progress) -> list[PictureFacts]:
    """Return the facts about each file, in order; memory holds a few decoded pictures at a time."""
    facts: list[PictureFacts] = []
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for start in range(0, len(files), BLOCK):
            facts += pool.map(examine_picture, files[start : start + BLOCK])
            progress("pictures", len(facts), len(files))
    return facts


def examine_picture(file: Path) -> PictureFacts:
    """Return the facts about a picture."""
    try:
        with open_picture(file, draft=("RGB", 4 * ALIKE)) as image:
            frames = image.format in ANIMATED and has_frames(image)
            original = image.info[FULL_SIZE]
            deep = deep_mode(image)
            mode = image.mode + (" 16 bits" if deep == "colour" else "")
            upright = turn_upright(image)
            upright.load()
            turned = upright is not image
            swapped = turned and image.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8)
        with refuse_damage(file):
            levels = find_range(upright) if deep in ("grey", "colour") and upright.mode != "RGB" else None
            plain = convert_to_plain(upright, file, deep, levels or (0, 65535)) if deep != "grey" else upright
            small = plain.resize((ALIKE, ALIKE)) if deep == "grey" else plain.convert("RGB").resize((ALIKE, ALIKE))
            digest = hashlib.blake2b(small.tobytes() + str(upright.size).encode(), digest_size=16).digest()
    except Refusal as refusal:
        return PictureFacts(file, str(refusal))
    size = original[::-1] if swapped else original
    return PictureFacts(file, "", size, mode, turned, frames, levels, digest)


def describe_pictures(facts: Sequence[PictureFacts], tree: Tree) -> tuple[list[str], list[str]]:
    """Return (facts about sizes and modes, lines about odd pictures)."""
    good = [fact for fact in facts if not fact.fault]
    lines = []
    if good:
        widths, heights = np.array([fact.size for fact in good]).T
        sizes = Counter(fact.size for fact in good)
        (width, height), count = sizes.most_common(1)[0]
        if len(sizes) == 1:
            lines.append(f"sizes: all {width} x {height}")
        else:
            lines.append(
                f"sizes: {len(sizes):,} different, widths {widths.min()} to {widths.max()}, heights {heights.min()} to"
                f" {heights.max()}, most often {width} x {height} ({count:,})"
            )
        modes = Counter(fact.mode for fact in good)
        lines.append("modes: " + ", ".join(f"{count:,} {mode}" for mode, count in modes.most_common()))
        oblong = sum(not fact.square for fact in good)
        if oblong:
            lines.append(f"not square: {oblong:,} of {len(good):,}")
    odd = [fact.fault for fact in facts if fact.fault]
    usual = Counter(fact.mode for fact in good).most_common(1)[0][0] if good else ""
    for fact in good:
        remarks = []
        if fact.levels is not None:
            remarks.append(f"more than 8 bits, levels {fact.levels[0]:g} to {fact.levels[1]:g}")
        elif fact.mode != usual:
            remarks.append(f"mode {fact.mode}, unlike most ({usual})")
        if fact.turned:
            remarks.append("turned by its EXIF orientation")
        if fact.frames:
            remarks.append("several frames, of which the first is used")
        if min(fact.size) < 8:
            remarks.append(f"tiny, {fact.size[0]} x {fact.size[1]}")
        if remarks:
            odd.append(f"{tree.name(fact.file)}: {'; '.join(remarks)}")
    return lines, odd


def find_duplicates(facts: Sequence[PictureFacts]) -> list[list[Path]]:
    """Return the groups of pictures with the same pixels at a small size."""
    groups: dict[bytes, list[Path]] = {}
    for fact in facts:
        if not fact.fault:
            groups.setdefault(fact.content, []).append(fact.file)
    return [group for group in groups.values() if len(group) > 1]


def propose_reading(facts: Sequence[PictureFacts]) -> tuple[dict[str, Any], list[str]]:
    """Return arguments that a data set of pictures needs for such files, and the reasons."""
    good = [fact for fact in facts if not fact.fault]
    arguments: dict[str, Any] = {}
    reasons: list[str] = []
    if not good:
        return arguments, reasons
    side = float(np.median([min(fact.size) for fact in good]))
    arguments["size"] = 32 if side <= 40 else 64
    reasons.append(f"size: {arguments['size']}, because the median shorter side has {pluralize(round(side), 'pixel')}")
    if all(fact.mode in ("1", "L", "LA", "I;16", "I", "F", "I;16B") for fact in good):
        arguments["colour"] = False
        reasons.append("colour: false, because all pictures are grey")
    deep = [fact.levels for fact in good if fact.levels is not None]
    if deep:
        low, high = min(level[0] for level in deep), max(level[1] for level in deep)
        arguments["levels"] = list(suggest_levels(low, high))
        reasons.append(f"levels: {arguments['levels']}, because the set's levels are {low:g} to {high:g}")
    long = sum(max(fact.size) >= 2 * min(fact.size) for fact in good) / len(good)
    if long > ELONGATED:
        arguments["fit"] = "squash"
        reasons.append(f"fit: squash, because {long:.0%} are at least twice as long as wide: a crop would lose half")
    if len(good) < len(facts):
        arguments["bad"] = "skip"
        unreadable = pluralize(len(facts) - len(good), "picture")
        reasons.append(f"bad: skip, because {unreadable} can't be read (listed above)")
    return arguments, reasons


def sample_pictures(examples: Sequence[tuple[Path, str]], levels: Sequence[float] | None) -> list[Sample]:
    """Return at most SHEET of the (file, caption) pairs, evenly spaced, as small pictures."""
    from PIL import Image

    samples = []
    for number in np.unique(np.linspace(0, len(examples) - 1, min(SHEET, len(examples))).astype(int)):
        file, caption = examples[number]
        try:
            with open_picture(file, draft=("RGB", 2 * THUMBNAIL)) as image:
                deep = deep_mode(image)
                upright = turn_upright(image)
                upright.load()
            with refuse_damage(file):
                plain = convert_to_plain(upright, file, deep, levels or (0, 65535)).convert("RGB")
                plain.thumbnail((2 * THUMBNAIL, 2 * THUMBNAIL), Image.Resampling.BILINEAR)
                samples.append(Sample(caption, np.asarray(plain)))
        except Refusal:
            continue
    return samples
