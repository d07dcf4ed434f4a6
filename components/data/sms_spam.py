"""SMS Spam Collection: 5,572 messages, 747 of them spam, as the CSV file that people share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from ..originals.fetch import Originals, fetch_file
from ..recipes.ranges import Count, Fraction, Open, Seed
from ..storage.dataset import Fault
from ..tokens.tokenizer import Tokenizer
from .text_table import TextTable, text_columns


class SMSSpam:
    """Columns as in `data.text_table.TextTable`, which reads the file: Windows-1252, and three columns without names.

    Of 5,572 rows, 414 repeat an earlier one; they are in one split, because it is drawn from the text.
    """

    name = "sms-spam"
    licence = "CC BY 4.0; of the copy Apache-2.0"
    source = "T. A. Almeida, J. M. Gomez Hidalgo: SMS Spam Collection, UCI 2012; the copy in github.com/mohitgupta-omg"
    originals: ClassVar[Originals] = {
        "spam.csv": (
            "https://raw.githubusercontent.com/mohitgupta-omg/Kaggle-SMS-Spam-Collection-Dataset-/master/spam.csv",
            "008dcf9ca6aab621d3b3831db6815867",
        )
    }
    duplicates = "drop"
    conflicts = "refuse"

    def __init__(
        self,
        raw: str = "data/raw",
        length: Count = 64,
        min_count: Count = 1,
        test: Open = 0.2,
        validation: Fraction = 0.0,
        seed: Seed = 0,
    ) -> None:
        self.folder = Path(raw) / self.name
        self.arguments: dict[str, Any] = {
            "length": length,
            "min_count": min_count,
            "test": test,
            "validation": validation,
            "seed": seed,
        }
        self.classes = ["ham", "spam"]
        self.columns = text_columns(length)

    @cached_property
    def table(self) -> TextTable:
        """Return the file as a table of texts."""
        ((name, (address, digest)),) = self.originals.items()
        file = fetch_file(self.folder, name, address, digest)
        return TextTable(str(file), text="v2", label="v1", encoding="cp1252", **self.arguments)

    @property
    def tokenizers(self) -> dict[str, Tokenizer]:
        """Return {"token": the tokenizer of the training split's words}."""
        return self.table.tokenizers

    @property
    def remarks(self) -> Counter[str]:
        """Return counts of what was done to rows."""
        return self.table.remarks

    def parts(self) -> dict[str, int]:
        """Return {split: number of parts}."""
        return self.table.parts()

    def examples(self, split: str, part: int) -> Iterator[dict[str, Any] | Fault]:
        """Yield the messages of one part in the order of the file."""
        return self.table.examples(split, part)
