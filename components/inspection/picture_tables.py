"""Recognise pictures with tables about them: a class, several tags, or a number for each."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.dialect import is_number
from ..data.image_table import ImageTable, clean_path, common_prefixes
from ..data.picture import SUFFIXES
from ..data.table import SUFFIXES as TABLE_SUFFIXES
from ..data.table import Table, TableFormat, read_table
from ..data.table_rows import SPLIT_NAMES
from ..errors import Refusal, pluralize
from .findings import Findings, Progress, Tree, condense_rows
from .picture_layouts import NAMED, propose_classifier
from .pictures import describe_pictures, examine_pictures, propose_reading, sample_pictures

FEWEST = 3  # different names by which a column of pictures is recognised
MOST_TABLES = 12
LIST = TableFormat(" ", header=False, quoting=False)  # of a text file with a picture and its class per line


@dataclass(frozen=True)
class PictureTable:
    """A table whose column `image` names pictures below `folder`."""

    table: Table
    folder: Path
    image: str

    @property
    def split(self) -> str:
        """Return the split that the file's name says, or ""."""
        words = re.split(r"[^a-z]+", self.table.file.stem.lower())
        return next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), "")


def recognise_picture_table(tree: Tree, progress: Progress) -> Findings | None:
    """Return the findings about a table that names pictures; None for any other layout."""
    return _recognise(tree, tree.by_suffix(*(TABLE_SUFFIXES - {".txt", ".json"})), TableFormat(), progress)


def recognise_picture_list(tree: Tree, progress: Progress) -> Findings | None:
    """Return the findings about a text file with a picture and its class per line; None for any other layout."""
    return _recognise(tree, tree.by_suffix(".txt"), LIST, progress)


def _recognise(tree: Tree, files: Sequence[Path], form: TableFormat, progress: Progress) -> Findings | None:
    """Return the findings about the likeliest of such tables; None where none names pictures."""
    pictures = tree.by_suffix(*SUFFIXES)
    if not pictures or tree.root.is_file() or len(files) > MOST_TABLES:
        return None
    tables = list(_read_tables(files, form, pictures, tree.root))
    if not tables:
        return None
    # sample_submission.csv names pictures, too
    tables.sort(key=lambda entry: (entry.split == "train", "sample" not in entry.table.file.stem, entry.table.rows))
    main = tables.pop()
    return _describe_picture_table(tree, main, tables, form, progress)


def _read_tables(
    files: Iterable[Path], form: TableFormat, pictures: Sequence[Path], root: Path
) -> Iterable[PictureTable]:
    """Yield the tables with a second column that name pictures."""
    for file in files:
        try:
            table = read_table(file, form)
        except Refusal:
            continue
        for name, values in table.columns.items():
            folder = _find_pictures_folder(values, pictures, root)
            if folder is not None and len(table.columns) > 1:
                yield PictureTable(table, folder, name)
                break


def _find_pictures_folder(values: Sequence[str | None], pictures: Sequence[Path], root: Path) -> Path | None:
    """Return the folder below which most of the values name pictures, or None."""
    sample = sorted({clean_path(value) for value in values[:200] if value})
    if len(sample) < FEWEST:
        return None
    prefixes = ["", *common_prefixes(sample)]
    candidates = Counter(parent for file in pictures[:: max(1, len(pictures) // 200)] for parent in file.parents)
    for folder in sorted((path for path in candidates if path.is_relative_to(root)), key=lambda path: len(path.parts)):
        for prefix in prefixes:
            hits = sum(_names_picture(folder, name.removeprefix(prefix)) for name in sample)
            if hits > NAMED * len(sample):
                return folder
    return None


def _names_picture(folder: Path, name: str) -> bool:
    place = folder / name
    return (
        0 < len(name) < 250
        and not name.startswith("/")
        and (
            (place.suffix.lower() in SUFFIXES and place.is_file())
            or any((folder / f"{name}{suffix}").is_file() for suffix in (".jpg", ".png", ".jpeg"))
        )
    )


def _describe_picture_table(
    tree: Tree, main: PictureTable, others: Sequence[PictureTable], form: TableFormat, progress: Progress
) -> Findings:
    """Return the findings about a table of pictures; others: further ones, which may be its splits."""
    table, image, file, folder = main.table, main.image, main.table.file, main.folder
    target, reason = choose_target(table.columns, image)
    findings = Findings("pictures and a table about them (data.image_table.ImageTable)", reasons=[reason])
    split = next((name for name in table.columns if name.lower() in ("split", "subset", "fold", "partition")), None)
    if split and not {str(value).lower() for value in table.columns[split]} <= SPLIT_NAMES.keys() | {"dev"}:
        split = None
    data: dict[str, Any] = {"use": "data.image_table.ImageTable", "file": str(file), "folder": str(folder)}
    data |= {"image": image, **target, **({"split": split} if split else {})}
    data |= {"delimiter": form.delimiter, "header": form.header} if form.delimiter else {}
    unused = _add_splits(data, main, others, findings, tree)
    reader = ImageTable(**{key: value for key, value in data.items() if key != "use"}, bad="skip")
    used = [path for path in reader.paths if path is not None]
    facts = examine_pictures(sorted(set(used)), progress)
    findings.facts, odd = describe_pictures(facts, tree)
    splits = reader.splits
    faults = [entry.reason for rows in splits.values() for entry in rows if not isinstance(entry, int)]
    findings.odd = tree.odd + reader.files.notes + unused + odd + condense_rows(faults)
    for name, rows in splits.items():
        texts = [reader.targets[row] for row in rows if isinstance(row, int)]
        if "label" in target:
            findings.counts[name] = dict(Counter(row[0] for row in texts))
        elif "tags" in target:
            encoded = [reader._encode_target(row)["labels"] for row in texts]
            findings.counts[name] = {tag: sum(int(row[n]) for row in encoded) for n, tag in enumerate(reader.classes)}
        else:
            findings.counts[name] = {"rows": len(texts)}
    spare = set(tree.by_suffix(*SUFFIXES)) - set(used)
    findings.odd += [f"{pluralize(len(spare), 'picture')} without a row in a table: passed over"] if spare else []
    arguments, reasons = propose_reading(facts)
    if faults:
        arguments["bad"] = "skip"
        reasons.append("bad: skip, because some rows can't be used (listed above)")
    findings.reasons += reasons
    captions = {path: " ".join(row)[:30] for path, row in zip(reader.paths, reader.targets, strict=True) if path}
    findings.samples = sample_pictures(list(captions.items()), arguments.get("levels"))
    task = {
        "label": "tasks.classification.Classification",
        "tags": "tasks.multi_label.MultiLabel",
        "value": "tasks.picture_regression.PictureRegression",
    }[next(iter(target))]
    findings.recipe = {"data": data | arguments, **propose_classifier(len(used), arguments.get("size", 64), task)}
    return findings


def _add_splits(
    data: dict[str, Any], main: PictureTable, others: Sequence[PictureTable], findings: Findings, tree: Tree
) -> list[str]:
    """Add the tables of other splits to the arguments; return a line per table that is not used."""
    lines = []
    columns = [data["image"], *data.get("tags", []), *(data[name] for name in ("label", "value") if name in data)]
    for other in others:
        place, argument = tree.name(other.table.file), f"{other.split}_file"
        missing = [column for column in columns if column not in other.table.columns]
        if other.split in ("", "train") or argument in data or "split" in data or other.folder != main.folder:
            lines.append(f"{place}: another table; not used")
        elif missing:
            lines.append(f"{place}: looks like the {other.split} split, but has no column '{missing[0]}'; not used")
        else:
            data[argument] = str(other.table.file)
            findings.reasons.append(f"{argument}: {place} has the same columns")
    return lines


def choose_target(columns: Mapping[str, Sequence[str | None]], image: str) -> tuple[dict[str, Any], str]:
    """Return the argument label, tags or value for the column(s) to predict, and the reason."""
    others = {name: values for name, values in columns.items() if name != image}
    binary = [name for name, values in others.items() if {str(v).strip() for v in values} == {"0", "1"}]
    if len(binary) > 1:
        return {"tags": binary}, f"tags: {len(binary)} columns hold 0 and 1 alone"
    preferred = ("label", "class", "category", "target", "tags", "labels", "species", "breed", "diagnosis")
    names = sorted(others, key=lambda name: (name.lower() not in preferred, list(others).index(name)))
    for name in names:
        values = [str(value or "").strip() for value in others[name]]
        different = set(values) - {""}
        if name.lower() in ("split", "subset", "fold", "partition", "id"):
            continue
        words = Counter(word for value in values for word in value.replace(",", " ").split())
        if 1 < len(different) <= max(2, len(values) // 5) and not any(" " in v or "," in v for v in different):
            return {"label": name}, f"label: column '{name}' has {len(different)} different values"
        if all(is_number(value) for value in different):
            return {"value": name}, f"value: column '{name}' holds numbers, {len(different):,} different ones"
        if len(words) <= max(2, len(values) // 2):
            separator = "," if any("," in value for value in values) else " "
            return {"tags": [name], **({"separator": ","} if separator == "," else {})}, (
                f"tags: column '{name}' holds several of {len(words)} names"
            )
    raise Refusal("label: no column looks like a class, tags or a number; write the recipe by hand (docs/own-data.md)")
