"""WikiText-2: small files, and the counts of the original ones where they are available."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path

import pytest

from components.data.text import Text
from components.data.wikitext import WikiText

REAL = Path(__file__).parents[4] / "shared" / "data"


def test_lines_of_both_files_end_with_a_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "wikitext-2"
    folder.mkdir()
    originals = {}
    for name, text in (("valid.txt", " \n = One = \n"), ("test.txt", " the <unk> . \n")):
        (folder / name).write_text(text)
        originals[name] = ("", hashlib.md5(text.encode()).hexdigest())
    monkeypatch.setattr(WikiText, "originals", originals)
    assert WikiText(str(tmp_path)).text() == "<eos> = One = <eos> the <unk> . <eos>"
    data = Text(partial(WikiText, str(tmp_path)), "word", steps=1, validation=0.0, test=0.0)
    rows = [example["token"].tolist() for example in data.examples("train", 0)]
    assert data.classes.count("<unk>") == 1
    assert rows[5][1] == 0, "an unknown word of the file is the unknown token"


@pytest.mark.skipif(not (REAL / "wikitext-2").is_dir(), reason=f"the original files are not in {REAL}")
def test_the_real_files_have_as_many_tokens_as_published() -> None:
    assert len(WikiText(str(REAL)).text().split()) == 217_646 + 245_569
