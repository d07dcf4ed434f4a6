"""WikiText-2: words of good articles of Wikipedia (Merity et al. 2016), the usual small text for models of words."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from ..originals.fetch import Originals, fetch_file

END = "<eos>"  # of a line, a token like others


class WikiText:
    """The validation and test text of WikiText-2, 463,215 words; a source for `data.text.Text` with `tokens: word`.

    Its training text is not read, so perplexities are not comparable with published ones. Rare words are <unk> in the
    files already. Lines end with END.
    """

    name = "wikitext-2"
    licence = "CC BY-SA 3.0"
    source = (
        "Wikipedia, by Merity et al.: WikiText-2, its files valid and test; the copy in github.com/pytorch/examples"
    )
    originals: ClassVar[Originals] = {
        "valid.txt": (
            "https://raw.githubusercontent.com/pytorch/examples/main/word_language_model/data/wikitext-2/valid.txt",
            "d756d22ab2310e7e60c094bea5c5a8eb",
        ),
        "test.txt": (
            "https://raw.githubusercontent.com/pytorch/examples/main/word_language_model/data/wikitext-2/test.txt",
            "781c9418ab9414bd09e4aad825aae752",
        ),
    }

    def __init__(self, raw: str = "data/raw") -> None:
        self.folder = Path(raw) / self.name

    def text(self) -> str:
        """Return the words of both files, one after the other, with a space between them."""
        files = [fetch_file(self.folder, name, *place) for name, place in self.originals.items()]
        lines = (line for file in files for line in file.read_text(encoding="utf-8").split("\n")[:-1])
        return " ".join(" ".join([*line.split(), END]) for line in lines)
