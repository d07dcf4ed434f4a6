"""Your own pictures, one folder per class: PNG, JPEG and the other SUFFIXES, made squares of one size.

    pictures/cat/*.jpg  pictures/dog/*.png                      test and validation splits are drawn by `seed`
    pictures/train/cat/*.jpg  ...  pictures/test/cat/*.jpg      splits are folders (also validation/, valid/ or val/)
    pictures/train/cat/*.jpg  ...  pictures/val/cat/*.jpg       test pictures are drawn from train/ (see `val`)

A drawn split depends on a picture's bytes, or on the name of its group, and on nothing else. A picture therefore keeps
its split when others are added or removed, and when it is renamed.

Other folders whose names look like splits are refused, because they could be mistaken for classes. Damaged pictures,
those of too many pixels, and files that only have the suffix of one, are refused by name, all of them at once. What is
passed over, cut or enlarged is counted.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from ..errors import Refusal
from ..files import open_regular
from ..recipes.ranges import Count, Fraction, Natural, Open
from ..storage.dataset import Fault
from ..storage.draw import draw_order, draw_split
from ..storage.store import Column
from .folder import Listing, list_files, list_folders
from .picture import SUFFIXES, Fit, Remarks, check_levels, read_picture

SPLIT_NAMES = {  # of folders, in lower case; hardly meant as classes
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
PART_BYTES = 64 << 20
MAX_ROWS_PER_PART = 4096
LabelledFiles = list[tuple[Path, int]]


class ImageFolder:
    """Pictures as squares of `size`; `test` and `validation` are shares of the pictures.

    The two shares apply where the folder does not have these splits itself. They are drawn by `seed` and hold
    approximately.

    fit: crop takes the middle square, pad adds black bars, squash changes the proportions.
    levels: [black, white] of pictures with more than 8 bits per channel, such as [0, 4095]; without it they are bad.
    labels: number of training pictures to keep, equally many of each class (None: all).
    val: what the pictures in val/ are where there is no test/; as the test split, validation is drawn from train/.
    group: level of the folders below a class whose pictures belong together, such as those of one patient or one video
    (1: pictures/cat/GROUP/...). A group's pictures are in one split, also where it has folders in several classes.
    None: each picture is drawn alone.
    bad: what happens to pictures that can't be read; skip leaves them out, and lists them.
    duplicates: what happens if pictures of two splits are the same at this size; drop: the held-out one stays.
    conflicts: what happens if pictures of two classes are the same at this size; drop: none of them stays.
    """

    licence = "the owner's"

    def __init__(
        self,
        folder: str,
        size: Count = 64,
        colour: bool = True,
        fit: Fit = "crop",
        levels: list[float] | None = None,
        test: Open = 0.2,
        validation: Fraction = 0.0,
        seed: Natural = 0,
        labels: Count | None = None,
        val: Literal["validation", "test"] = "validation",
        group: Count | None = None,
        bad: Literal["refuse", "skip"] = "refuse",
        duplicates: Literal["refuse", "drop", "allow"] = "drop",
        conflicts: Literal["refuse", "drop", "allow"] = "refuse",
    ) -> None:
        self.folder = Path(folder)
        self.size = size
        self.colour = colour
        self.fit = fit
        self.levels = check_levels(levels)
        self.own = [self.folder]
        self.test = test
        self.validation = validation
        self.seed = seed
        self.labels = labels
        self.group = group
        self.bad = bad
        self.duplicates = duplicates
        self.conflicts = conflicts
        self.remarks: Remarks = Counter()
        if not self.folder.is_dir():
            raise Refusal(f"folder: {folder} is not a folder; put one sub-folder of pictures per class there")
        self.name = self.folder.name
        self.source = str(folder)
        self.split_folders = find_split_folders(self.folder, val)
        base = self.split_folders.get("train", self.folder)
        self.classes = list_folders(base)
        self.empty = [name for name in self.classes if bad == "skip" and not has_picture(base / name)]
        self.classes = [name for name in self.classes if name not in self.empty]
        if not self.classes:
            raise Refusal(f"{folder}: contains no folders; put the pictures of each class into a folder of its name")
        if labels is not None and labels < len(self.classes):
            raise Refusal(
                f"labels: {labels} are fewer than the {len(self.classes)} classes; give at least one for each"
            )
        shape = (size, size, 3 if colour else 1)
        self.columns = {"image": Column("uint8", shape), "label": Column("int64")}
        self.rows_per_part = rows_per_part(shape)

    def parts(self) -> dict[str, int]:
        """Return {split: number of parts}."""
        return {split: -(-len(files) // self.rows_per_part) for split, files in self.splits.items()}

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any] | Fault]:
        """Yield the pictures of one part, sorted by class and path."""
        for file, label in self.splits[split][part * self.rows_per_part : (part + 1) * self.rows_per_part]:
            try:
                image = read_picture(file, self.size, self.colour, self.fit, self.levels, self.remarks)
            except Refusal as refusal:
                yield Fault(str(refusal))
            else:
                yield {"image": image, "label": label}

    def locate(self, split: str, row: int) -> Path:
        """Return the file of an example."""
        return self.splits[split][row][0]

    @property
    def notes(self) -> list[str]:
        """Return sentences about the files that were passed over."""
        empty = [f"classes without a picture left out: {', '.join(self.empty)}"] if self.empty else []
        return self._listing.describe_rest() + empty

    @cached_property
    def _listing(self) -> Listing:
        return list_files(self.folder, SUFFIXES)

    @cached_property
    def splits(self) -> dict[str, LabelledFiles]:
        """Return {split: its files and their labels}."""
        folders = self.split_folders
        if not folders:
            splits = self._draw(self._list_pictures(self.folder), self.folder, self.test, self.validation)
        else:
            splits = {split: self._list_pictures(folder) for split, folder in folders.items()}
            test = 0.0 if "test" in folders else self.test
            validation = 0.0 if "validation" in folders else self.validation
            if test or validation:
                splits |= self._draw(splits["train"], folders["train"], test, validation)
        if self.labels is not None:
            splits["train"] = self._keep_labels(splits["train"])
        return {name: splits[name] for name in ("train", "validation", "test") if name in splits}

    def _list_pictures(self, folder: Path) -> LabelledFiles:
        """Return every picture below the class folders in `folder`, sorted by class and path."""
        unknown = {name for name in set(list_folders(folder)) - set(self.classes) if has_picture(folder / name)}
        if unknown:
            raise Refusal(f"{folder / min(unknown)}: train/ has no class of that name; add it there or remove this one")
        by_class: dict[str, list[Path]] = {name: [] for name in self.classes}
        for file in self._listing.files:
            levels = file.relative_to(folder).parts if file.is_relative_to(folder) else ()
            if len(levels) > 1:
                by_class[levels[0]].append(file)
        files: LabelledFiles = []
        is_train = folder in (self.folder, self.split_folders.get("train"))
        for label, (name, pictures) in enumerate(by_class.items()):
            if not pictures and is_train:
                raise Refusal(f"{folder / name}: no picture in this class; add some or remove the folder")
            files += [(file, label) for file in pictures]
        return files

    def _draw(self, files: LabelledFiles, folder: Path, test: float, validation: float) -> dict[str, LabelledFiles]:
        """Return {split: its files}: `test` and `validation` as shares; refuses a split that remains empty."""
        if test + validation >= 1:
            raise Refusal("validation: leaves nothing to train on; lower test and validation")
        splits: dict[str, LabelledFiles] = {"train": []}
        for name, share in (("validation", validation), ("test", test)):
            if share:
                splits[name] = []
        for file, label in files:
            splits[draw_split(self._draw_key(file, folder), test, validation, self.seed)].append((file, label))
        drawn = "pictures" if self.group is None else "pictures by their groups"
        for name, members in splits.items():
            if not members:
                share = {"test": test, "validation": validation}.get(name, 1 - test - validation)
                raise Refusal(
                    f"{name}: {share:g} of {len(files)} {drawn} gives an empty split; raise it, add pictures, or take"
                    " another seed"
                )
        return splits

    def _draw_key(self, file: Path, folder: Path) -> bytes:
        """Return the bytes that decide a picture's split: a digest of its content, or the name of its group.

        Refuses a picture that lies above the folders of groups.
        """
        if self.group is None:
            return content_key(file)
        levels = file.relative_to(folder).parts[1:-1]
        if len(levels) < self.group:
            raise Refusal(f"{file}: lies in no folder of level group: {self.group}; move it into its group's folder")
        return "/".join(levels[: self.group]).encode()

    def _keep_labels(self, files: LabelledFiles) -> LabelledFiles:
        """Return `labels` of the files, equally many of each class; the hash of its bytes decides on a picture."""
        assert self.labels is not None
        keys = {file: draw_order(content_key(file), self.seed) for file, _ in files}
        by_class: dict[int, list[Path]] = {}
        for file, label in files:
            by_class.setdefault(label, []).append(file)
        chosen: set[Path] = set()
        for number, (label, pictures) in enumerate(by_class.items()):
            count = self.labels * (number + 1) // len(by_class) - self.labels * number // len(by_class)
            if len(pictures) < count:
                raise Refusal(
                    f"labels: {self.labels} need {count} training pictures of class '{self.classes[label]}',"
                    f" which has {len(pictures)}; lower it"
                )
            chosen |= set(sorted(pictures, key=keys.__getitem__)[:count])
        return [(file, label) for file, label in files if file in chosen]


def rows_per_part(shape: tuple[int, int, int]) -> int:
    """Return how many pictures of a shape [H, W, C] a part holds."""
    return min(MAX_ROWS_PER_PART, max(1, PART_BYTES // math.prod(shape)))


def has_picture(folder: Path) -> bool:
    """Return whether there is a picture below a folder."""
    return any(path.suffix.lower() in SUFFIXES for path in folder.rglob("*"))


def content_key(file: Path) -> bytes:
    """Return the digest of a file's bytes; that of nothing for a link that leads nowhere."""
    if not file.exists():
        return b""
    with open_regular(file) as content:
        return hashlib.file_digest(content, "sha256").digest()


def find_split_folders(folder: Path, val: Literal["validation", "test"] = "validation") -> dict[str, Path]:
    """Return {split: folder}, or {} where the folders are classes. A class may be called "train", the vehicle.

    val: the split of a folder val/ where there is no test/. Refuses a mixture of folders that could be either.
    """
    names = list_folders(folder)
    by_split: dict[str, list[str]] = {}
    for name in names:
        if name.lower() in SPLIT_NAMES:
            by_split.setdefault(SPLIT_NAMES[name.lower()], []).append(name)
    if len(by_split) > 1 and "train" in by_split and all(len(same) == 1 for same in by_split.values()):
        others = [name for name in names if name.lower() not in SPLIT_NAMES]
        if not others:
            folders = {split: folder / same[0] for split, same in by_split.items()}
            if "test" not in folders and val == "test":
                folders["test"] = folders.pop("validation")
            return folders
    split_names = [name for name in names if name.lower() in SPLIT_NAMES]
    if split_names and (split_names == names or any(name.lower() != "train" for name in split_names)):
        raise Refusal(
            f"{folder}: {', '.join(split_names)}: folders of splits must be train with test or one of"
            " validation, valid, val, or both, and nothing else; rename or remove them, or put the classes of all"
            f" into {folder} itself"
        )
    return {}
