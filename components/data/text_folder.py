"""Your own texts, one file each, in one folder per class: .txt, .md or .text.

    mails/spam/*.txt  mails/ham/*.txt                       test and validation texts are drawn by `seed`
    mails/train/spam/*.txt  ...  mails/test/spam/*.txt      splits are folders (also validation/, valid/ or val/)

Everything else is as in text_table.py: a drawn split depends on the text alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal, overload

from ..errors import Refusal, printable
from ..recipes.ranges import Count, Fraction, Natural
from ..storage.dataset import Fault
from ..storage.draw import draw_split
from ..tokens.tokenizer import TokenizerTrainer
from ..tokens.vocabulary import TokenKind
from .encoding import read_text
from .folder import Listing, list_files
from .image_folder import find_split_folders
from .table_rows import ORDER, Entries, Shares, check_splits, describe_repeated
from .text import make_trainer
from .text_file import SUFFIXES
from .text_table import TextTable, text_columns

MAX_BYTES = 16 << 20  # of a text


class TextFolder(TextTable):
    """Texts as columns "token" int32 [length], "key" and "label", as in `data.text_table.TextTable`.

    tokens, length, min_count, encoding, bad, duplicates, conflicts: as there
    test, validation: approximate shares of the texts, where the folder does not have these splits itself
    val: what the texts in val/ are where there is no test/
    """

    def __init__(
        self,
        folder: str,
        tokens: TokenKind | Callable[..., TokenizerTrainer] = "word",
        length: Count = 64,
        min_count: Count = 1,
        test: Fraction = 0.2,
        validation: Fraction = 0.0,
        val: Literal["validation", "test"] = "validation",
        seed: Natural = 0,
        encoding: str | None = None,
        bad: Literal["refuse", "skip"] = "refuse",
        duplicates: Literal["refuse", "drop", "allow"] = "drop",
        conflicts: Literal["refuse", "drop", "allow"] = "refuse",
    ) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise Refusal(f"folder: {folder} is not a folder; put one sub-folder of texts per class there")
        self.split_folders = find_split_folders(self.folder, val)
        self.own = [self.folder]
        self.has_validation = "validation" in self.split_folders
        self.name = self.folder.name
        self.source = folder
        self.splits_words = tokens == "word"
        self.trainer = make_trainer(tokens, min_count)
        self.length = length
        self.shares = Shares(test, validation, seed)
        self.encoding = encoding
        self.bad = bad
        self.duplicates = duplicates
        self.conflicts = conflicts
        self.remarks: Counter[str] = Counter()
        self.columns = text_columns(length)

    @cached_property
    def _listing(self) -> Listing:
        return list_files(self.folder, SUFFIXES)

    @cached_property
    def rows(self) -> list[tuple[Path, str, str]]:
        """Return (file, split or "", class) of each text; refuses a folder without any below folders of classes."""
        rows = []
        bases = self.split_folders or {"": self.folder}
        for split, base in bases.items():
            for file in self._listing.files:
                levels = file.relative_to(base).parts if file.is_relative_to(base) else ()
                if len(levels) > 1:
                    rows.append((file, split, levels[0]))
        if not rows:
            raise Refusal(f"folder: {self.source} holds no text below a folder of a class; name another folder")
        return rows

    @cached_property
    def texts(self) -> Sequence[str]:
        """Return the texts; "" for a file that is none."""
        return FileTexts([file for file, _, _ in self.rows], self.encoding)

    @cached_property
    def labels(self) -> Sequence[str]:
        """Return the class of each text."""
        return [name for _, _, name in self.rows]

    @cached_property
    def classes(self) -> list[str]:
        """Return the names of the classes."""
        names = sorted({name for _, split, name in self.rows if split in ("", "train")})
        unknown = sorted(set(self.labels) - set(names))
        if unknown or len(names) < 2:
            fault = f"train/ has no class '{unknown[0]}'" if unknown else f"{len(names)} class; 2 are needed"
            raise Refusal(f"folder: {self.source}: {fault}; add texts or remove the folder")
        return names

    @cached_property
    def splits(self) -> dict[str, Entries]:
        """Return {split: its rows and faults}."""
        splits = {split: Entries() for split in ORDER}
        has_test, has_validation = ("test" in self.split_folders, self.has_validation)
        test = 0.0 if has_test else self.shares.test
        validation = 0.0 if has_validation else self.shares.validation
        for row, (file, split, _) in enumerate(self.rows):
            text = self.texts[row]
            drawn = draw_split(text.encode(), test, validation, self.shares.seed)
            fault = Fault(f"{printable(file)}: holds no text of a known encoding; replace or remove it")
            splits[drawn if split in ("", "train") else split].append(row if text else fault)
        check_splits(splits, {"test": test, "validation": validation})
        return {name: entries for name, entries in splits.items() if len(entries)}

    @property
    def notes(self) -> list[str]:
        """Return what was passed over, and how many texts repeat an earlier one."""
        return self._listing.describe_rest() + describe_repeated(self.texts, self.labels)

    def locate(self, split: str, row: int) -> str:
        """Return the file of an example."""
        entry = self.splits[split][row]
        return printable(self.rows[entry][0]) if isinstance(entry, int) else entry.reason


class FileTexts(Sequence[str]):
    """The texts of files, read when they are looked at; "" for a file that is none."""

    def __init__(self, files: Sequence[Path], encoding: str | None) -> None:
        self.files = files
        self.encoding = encoding

    def __len__(self) -> int:
        return len(self.files)

    @overload
    def __getitem__(self, key: int) -> str: ...
    @overload
    def __getitem__(self, key: slice) -> list[str]: ...
    def __getitem__(self, key: int | slice) -> str | list[str]:
        if isinstance(key, slice):
            return [self[row] for row in range(*key.indices(len(self)))]
        try:
            if self.files[key].stat().st_size > MAX_BYTES:
                return ""
            return read_text(self.files[key], self.encoding)[0].strip()
        except (Refusal, FileNotFoundError):
            return ""
