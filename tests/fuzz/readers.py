"""The readers of files, each with a valid file that the tests damage."""

from __future__ import annotations

import gzip
import io
import json
import re
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from components.data.coco_folder import parse_instances
from components.data.encoding import read_text
from components.data.picture import read_picture
from components.data.table import read_table
from components.drawings import figures
from components.drawings.svg import read_svg
from components.environment_file import read_environment_file
from components.errors import Refusal
from components.files import read_object
from components.originals import idx
from components.originals.archive import read_members
from components.recipes import recipe
from components.runs import journal
from components.runs.description import RUN, describe_run, read_description
from components.search import trials
from components.storage.column import Column
from components.storage.dataset import prepare_dataset
from components.storage.part import Part, write_part
from components.storage.store import Store
from components.tracking import note
from components.training import checkpoint, exported, messages
from tests.components.training.test_checkpoint import state as checkpoint_state
from tests.components.training.test_exported import SECTION, SPEC
from tests.components.training.test_exported import state as exported_state

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Reader:
    """One reader: `write` makes a folder and returns its file to damage, `read` reads it; it may raise `errors`."""

    write: Callable[[Path], Path]
    read: Callable[[Path], Any]
    errors: tuple[type[Exception], ...] = (Refusal,)
    is_json: bool = False


def write_bytes(name: str, content: bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return write


def picture_bytes(form: str, mode: str = "RGB", **options: Any) -> bytes:
    stream = io.BytesIO()
    pixels = np.arange(24 * 16 * 3, dtype=np.uint8).reshape(24, 16, 3)
    Image.fromarray(pixels).convert(mode).save(stream, form, **options)
    return stream.getvalue()


def archive_bytes(kind: str) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=kind) as archive:
        for name in ("data/a.txt", "data/b.txt"):
            member = tarfile.TarInfo(name)
            member.size = 900
            archive.addfile(member, io.BytesIO(bytes(range(90)) * 10))
    return stream.getvalue()


def table_bytes(suffix: str) -> bytes:
    if suffix == ".parquet":
        import pyarrow as pa
        from pyarrow import parquet

        stream = io.BytesIO()
        parquet.write_table(pa.table({"text": ["a", "b", None] * 9, "label": list(range(27))}), stream)
        return stream.getvalue()
    rows = [("text", "label"), *((f'words, {number} "so"', str(number % 3)) for number in range(20))]
    if suffix == ".jsonl":
        return "\n".join(json.dumps(dict(zip(rows[0], row, strict=True))) for row in rows[1:]).encode()
    return "\n".join(",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in rows).encode()


def read_message(folder: Path) -> Any:
    return messages.decode_message((folder / "m").read_bytes())


def read_named_picture(name: str) -> Callable[[Path], Any]:
    return lambda folder: read_picture(folder / name, 8, colour=True)


def write_small_part(folder: Path) -> Path:
    columns = {"image": Column("uint8", (3, 2)), "tokens": Column("int32", (None,)), "text": Column("utf8")}
    examples = (
        {"image": np.full((3, 2), i, np.uint8), "tokens": np.arange(i % 4, dtype=np.int32), "text": f"t{i}"}
        for i in range(40)
    )
    write_part(folder / "a.arrow", columns, examples, rows_per_batch=16)
    return folder / "a.arrow"


def read_part(folder: Path) -> None:
    part = Part(folder / "a.arrow")
    rows = np.arange(part.rows)
    for name in part.columns:
        part.take(name, rows)


def write_store(name: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        from components.data.gaussians import Gaussians

        prepare_dataset(Gaussians(), folder / "prepared")
        return next(iter(sorted((folder / "prepared").glob(name))))

    return write


def read_store(folder: Path) -> None:
    store = Store(folder / "prepared")
    for split in store.manifest["splits"]:
        for name in store.split(split).columns:
            store.split(split).array(name)


def write_checkpoints(name: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        for steps in (1, 2):
            checkpoint.write_checkpoint(folder, checkpoint_state(0, steps), {"position": steps})
        return folder / "checkpoint-00000002" / name

    return write


def read_checkpoints(folder: Path) -> None:
    loaded = checkpoint.load_latest(folder, checkpoint_state(1, 0))
    assert loaded is not None, "the one before is intact"
    checkpoint.unpack_state(checkpoint_state(1, 0), *loaded)


def write_exported(name: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        exported.write_model(folder, exported_state(0)[0], SPEC, SECTION)
        return folder / name

    return write


def write_journal(folder: Path) -> Path:
    lines = journal.Journal(folder / journal.LOG)
    for step in range(20):
        lines.write("metric", step=step, values={"loss": 1 / (step + 1)})
    return folder / journal.LOG


def write_run(folder: Path) -> Path:
    describe_run(folder, "a", "family", None, {"a": 1}, {"b": "c"})
    return folder / RUN


def write_trial(folder: Path) -> Path:
    record = vars(trials.Trial("a", 0, {"lr": 0.1}, [{"accuracy": 0.5}]))
    (folder / trials.RECORD).write_text(json.dumps(record, default=str))
    return folder / trials.RECORD


def write_idx(folder: Path) -> Path:
    content = b"\x00\x00\x08\x03" + np.array([30, 8, 8], ">i4").tobytes() + bytes(30 * 64)
    (folder / "a.gz").write_bytes(gzip.compress(content, mtime=0))
    return folder / "a.gz"


def write_drawing(folder: Path) -> Path:
    curves = {"a": [(np.arange(4.0), np.arange(4.0))]}
    return figures.save_figure(figures.draw_curves(curves, "title"), folder / "a.svg")


INSTANCES = {
    "images": [{"id": 1, "file_name": "a.png", "width": 8, "height": 8}],
    "categories": [{"id": 1, "name": "cat"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 3, 3], "segmentation": [[1, 1, 4, 1, 4, 4]]}
    ],
}
NOTE = {"uri": "u", "id": "i", "offsets": {"journal.log": 5}, "attempts": 1, "deleted": False}
MESSAGE = messages.encode_message({"a": [1, "x", (2.0,)], "b": np.arange(9, dtype=np.float32)})
PATTERN = re.compile(r"data/(\w)\.txt")
READERS = {
    "recipe": Reader(write_bytes("a.yaml", (ROOT / "params.yaml").read_bytes()), lambda f: recipe.load(f / "a.yaml")),
    "object": Reader(
        write_bytes("a.json", b'{"a": [1, {"b": null}], "c": "d"}'),
        lambda f: read_object(f / "a.json"),
        (Refusal, ValueError),
    ),
    "part": Reader(write_small_part, read_part),
    "manifest": Reader(write_store("manifest.json"), read_store, is_json=True),
    "store": Reader(write_store("*.arrow"), read_store),
    "journal": Reader(write_journal, lambda f: journal.read_records(f / journal.LOG)),
    "run": Reader(write_run, read_description, is_json=True),
    "note": Reader(write_bytes(note.NOTE, json.dumps(NOTE).encode()), note.read_note, is_json=True),
    "trial": Reader(write_trial, trials.read_trial, is_json=True),
    "checkpoint record": Reader(write_checkpoints("state.json"), read_checkpoints, is_json=True),
    "checkpoint tensors": Reader(write_checkpoints("state.safetensors"), read_checkpoints),
    "model record": Reader(write_exported(exported.RECORD_FILE), exported.read_model, is_json=True),
    "model weights": Reader(write_exported(exported.WEIGHTS_FILE), exported.read_model),
    "message": Reader(
        write_bytes("m", MESSAGE), lambda f: messages.decode_message((f / "m").read_bytes()), (ValueError,)
    ),
    "idx": Reader(write_idx, lambda f: idx.read_array(f / "a.gz")),
    "drawing": Reader(write_drawing, lambda f: read_svg(f / "a.svg")),
    "environment": Reader(write_bytes("e", b"A=1\nB=x y\n# c\n"), lambda f: read_environment_file(f / "e")),
    "text": Reader(write_bytes("t", "naïve café\n".encode("latin-1") * 9), lambda f: read_text(f / "t")),
    "instances": Reader(
        write_bytes("i", json.dumps(INSTANCES).encode()),
        lambda f: parse_instances("i", (f / "i").read_bytes()),
        is_json=True,
    ),
}
for form, mode in (
    ("PNG", "RGB"),
    ("PNG", "P"),
    ("JPEG", "RGB"),
    ("GIF", "P"),
    ("BMP", "RGB"),
    ("TIFF", "RGB"),
    ("WEBP", "RGB"),
):
    READERS[f"picture {form} {mode}"] = Reader(
        write_bytes(f"a.{form.lower()}", picture_bytes(form, mode)),
        read_named_picture(f"a.{form.lower()}"),
    )
for kind in ("w", "w:gz", "w:bz2", "w:xz"):
    READERS[f"archive {kind}"] = Reader(
        write_bytes("a.tar", archive_bytes(kind)),
        lambda folder: list(read_members(folder / "a.tar", PATTERN, 1 << 20, 8 << 20)),
    )
for suffix in (".csv", ".jsonl", ".parquet"):
    READERS[f"table {suffix}"] = Reader(
        write_bytes(f"a{suffix}", table_bytes(suffix)), lambda folder, name=f"a{suffix}": read_table(folder / name)
    )
