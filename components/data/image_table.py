"""Your own pictures and a table about them: a class, several tags, or a number for each.

    labels.csv: image,breed           label: breed                  classification
    trainval.txt: Abyssinian_1 1      image: "1", label: "2", delimiter: " ", header: false; test_file: test.txt
    labels.csv: image,tags            tags: [tags]                  several names per picture, separated by `separator`
    labels.csv: image,car,tree,sky    tags: [car, tree, sky]        one column of 0 and 1 per tag
    labels.csv: image,age             value: age                    regression

A drawn split depends on a picture's bytes, or on the value of the column `group`. Rows whose picture is missing or
damaged are bad ones, all named at once; pictures without a row are counted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np

from ..errors import Refusal, pluralize
from ..recipes.ranges import Count, Fraction, Natural
from ..storage.dataset import Fault
from ..storage.store import Column
from .dialect import is_finite_number
from .folder import Listing, list_files
from .image_folder import content_key, rows_per_part
from .picture import SUFFIXES, Fit, Remarks, check_levels, read_picture
from .table import TableFormat
from .table_rows import Entries, Shares, TableFiles, list_classes
from .text_columns import StrippedRows


class ImageTable:
    """Pictures as squares of `size`, with column "label", "labels" uint8 [tags] or "y" float32.

    folder: where the pictures are; image: the column of their paths below it, with or without a suffix.
    label, tags, value: the column(s) to predict; exactly one of the three.
    separator: between the names in a column of tags; empty stands for no tag.
    validation_file, test_file: tables of these splits, with the same columns.
    test, validation: approximate shares of the rows, where neither a file nor the column `split` says it.
    group: column whose equal values must be in one split, such as a patient.
    size, colour, fit, levels, bad, duplicates, conflicts: as in `data.image_folder.ImageFolder`.
    """

    licence = "the owner's"

    def __init__(
        self,
        file: str,
        folder: str,
        image: str,
        label: str | None = None,
        tags: list[str] | None = None,
        value: str | None = None,
        separator: str = " ",
        validation_file: str | None = None,
        test_file: str | None = None,
        split: str | None = None,
        group: str | None = None,
        size: Count = 64,
        colour: bool = True,
        fit: Fit = "crop",
        levels: list[float] | None = None,
        test: Fraction = 0.2,
        validation: Fraction = 0.0,
        seed: Natural = 0,
        delimiter: str | None = None,
        header: bool | None = None,
        encoding: str | None = None,
        bad: Literal["refuse", "skip"] = "refuse",
        duplicates: Literal["refuse", "drop", "allow"] = "drop",
        conflicts: Literal["refuse", "drop", "allow"] = "refuse",
    ) -> None:
        if sum(target is not None for target in (label, tags, value)) != 1:
            raise Refusal("label: set exactly one of label, tags and value, the column(s) to predict")
        if not separator:
            raise Refusal("separator: is empty; name the text between two tags, such as a space")
        form = TableFormat(delimiter, header, None, encoding)
        self.files = TableFiles.of_splits(file, validation_file, test_file, form)
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise Refusal(f"folder: {folder} is not a folder; name the one that holds the pictures")
        self.own = [*self.files.paths, self.folder]
        self.has_validation = validation_file is not None or split is not None
        self.name = Path(file).stem
        self.source = f"{file}, {folder}"
        self.image_column = image
        self.label_column = label
        self.tag_columns = tags
        self.value_column = value
        self.separator = separator
        self.split_column = split
        self.group_column = group
        self.size = size
        self.colour = colour
        self.fit = fit
        self.levels = check_levels(levels)
        self.shares = Shares(test, validation, seed)
        self.bad = bad
        self.duplicates = duplicates
        self.conflicts = conflicts
        self.remarks: Remarks = Counter()
        self.shape = (size, size, 3 if colour else 1)
        self.rows_per_part = rows_per_part(self.shape)

    @property
    def columns(self) -> dict[str, Column]:
        """Return the columns of the prepared rows."""
        image = {"image": Column("uint8", self.shape)}
        if self.label_column is not None:
            return image | {"label": Column("int64")}
        if self.tag_columns is not None:
            return image | {"labels": Column("uint8", (len(self.classes),))}
        return image | {"y": Column("float32")}

    @cached_property
    def targets(self) -> Sequence[list[str]]:
        """Return the texts of the column(s) to predict, per row."""
        names = self.tag_columns or [self.label_column or self.value_column or ""]
        argument = "tags" if self.tag_columns else "label" if self.label_column else "value"
        return StrippedRows([self.files.column(name, argument) for name in names])

    @cached_property
    def classes(self) -> list[str]:
        """Return the names of classes or tags; [] for a number."""
        if self.value_column is not None:
            return []
        if self.tag_columns is not None and len(self.tag_columns) > 1:
            return self.tag_columns
        names = [name for row in self.targets for name in (self._split_tags(row[0]) if self.tag_columns else row)]
        return list_classes(names)

    def _split_tags(self, text: str) -> list[str]:
        """Return the names in a text of tags; brackets and quotes of a JSON list do not count."""
        return [name for part in re.sub(r'[\[\]"]', "", text).split(self.separator) if (name := part.strip(" ,"))]

    @cached_property
    def _listing(self) -> Listing:
        return list_files(self.folder, SUFFIXES)

    @cached_property
    def pictures(self) -> dict[str, Path]:
        """Return {path below the folder: file}, also without the suffix where that leaves one file."""
        paths = {file.relative_to(self.folder).as_posix(): file for file in self._listing.files}
        stems = Counter(str(PurePosixPath(path).with_suffix("")) for path in paths)
        short = {str(PurePosixPath(path).with_suffix("")): file for path, file in paths.items()}
        return {stem: file for stem, file in short.items() if stems[stem] == 1} | paths

    @cached_property
    def paths(self) -> list[Path | None]:
        """Return the picture of each row, or None where there is none."""
        names = [clean_path(name) for name in self.files.column(self.image_column, "image")]
        prefixes = [f"{self.folder.name}/", *common_prefixes(names)]  # tables often name pictures from further up
        paths: list[Path | None] = []
        for name in names:
            tails = (name, *(name.removeprefix(prefix) for prefix in prefixes))
            paths.append(next((self.pictures[tail] for tail in tails if tail in self.pictures), None))
        return paths

    @cached_property
    def splits(self) -> dict[str, Entries]:
        """Return {split: its rows and faults}."""
        groups = self.files.column(self.group_column, "group") if self.group_column else None
        names = self.files.column(self.image_column, "image")

        def check_row(row: int) -> str | None:
            if self.paths[row] is None:
                return f"no picture '{names[row]}' in {self.folder}"
            return self._check_target(row)

        def draw_key(row: int) -> bytes:
            path = self.paths[row]
            if groups is not None:
                return (groups[row] or "").encode()
            return content_key(path) if path else b""

        return self.files.split(check_row, draw_key, self.shares, self.split_column)

    def _check_target(self, row: int) -> str | None:
        """Return why a row's target cannot be used, or None."""
        texts = self.targets[row]
        if self.label_column is not None and not texts[0]:
            return f"no label in column '{self.label_column}'"
        if self.value_column is not None and not is_finite_number(texts[0]):
            return f"'{texts[0]}' in column '{self.value_column}' is not a number"
        if self.tag_columns is not None and len(texts) > 1:
            odd = [text for text in texts if text not in ("0", "1", "0.0", "1.0", "true", "false", "True", "False")]
            return f"'{odd[0]}' is neither 0 nor 1" if odd else None
        return None

    @property
    def notes(self) -> list[str]:
        """Return what is odd about the files, and how many pictures have no row."""
        used = {path for path in self.paths if path is not None}
        spare = len(self._listing.files) - len(used)
        unused = [f"{pluralize(spare, 'picture')} without a row in a table passed over"] if spare else []
        return self.files.notes + self._listing.describe_rest() + unused

    def parts(self) -> dict[str, int]:
        """Return {split: number of parts}."""
        return {split: -(-len(entries) // self.rows_per_part) for split, entries in self.splits.items()}

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any] | Fault]:
        """Yield the rows of one part in the order of the table."""
        for entry in self.splits[split][part * self.rows_per_part : (part + 1) * self.rows_per_part]:
            if isinstance(entry, Fault):
                yield entry
                continue
            try:
                path = self.paths[entry]
                assert path is not None  # `splits` has checked it
                image = read_picture(path, self.size, self.colour, self.fit, self.levels, self.remarks)
            except Refusal as refusal:
                yield Fault(str(refusal))
            else:
                yield {"image": image, **self._encode_target(self.targets[entry])}

    def _encode_target(self, texts: list[str]) -> dict[str, Any]:
        """Return the column of a row that is to be predicted."""
        if self.label_column is not None:
            return {"label": self.classes.index(texts[0])}
        if self.value_column is not None:
            return {"y": np.float32(texts[0])}
        if len(texts) > 1:
            return {"labels": np.array([text.lower() in ("1", "1.0", "true") for text in texts], np.uint8)}
        tags = self._split_tags(texts[0])
        return {"labels": np.array([name in tags for name in self.classes], np.uint8)}

    def locate(self, split: str, row: int) -> Path | str:
        """Return the file of an example."""
        entry = self.splits[split][row]
        return self.paths[entry] or "" if isinstance(entry, int) else entry.reason


def clean_path(name: str | None) -> str:
    """Return the path of a picture with slashes, also where Windows wrote it."""
    return (name or "").strip().replace("\\", "/").removeprefix("./")


def common_prefixes(names: Sequence[str]) -> list[str]:
    """Return the beginnings up to a slash that all non-empty paths share, such as those of absolute ones."""
    folders = sorted({name.rpartition("/")[0] for name in names if name})
    if not folders or not folders[0]:
        return []
    prefixes = []
    for length in range(1, folders[0].count("/") + 2):
        prefix = "/".join(folders[0].split("/")[:length]) + "/"
        if all(f"{folder}/".startswith(prefix) for folder in folders):
            prefixes.append(prefix)
    return prefixes
