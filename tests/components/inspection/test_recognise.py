"""Each layout is recognised, counted, and proposed as a recipe that can be prepared; all that is odd is listed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from components.data.table import read_table
from components.errors import Refusal
from components.inspection import table_layouts
from components.inspection.findings import Findings
from components.inspection.recognise import inspect_path
from components.recipes import recipe
from components.storage.dataset import Dataset, prepare_dataset
from pipelines.stage.check import check_recipe


def inspect(path: Path) -> Findings:
    return inspect_path(path, lambda subject, done, total: None)


def save(path: Path, level: int, size: tuple[int, int] = (8, 8), **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (level, level // 2, 9)).save(path, **options)


def prepare(findings: Findings, folder: Path) -> dict[str, Any]:
    """Check the proposed recipe, prepare its data, and return the manifest."""
    assert findings.recipe is not None
    check_recipe(findings.recipe, "proposed.yaml")
    return prepare_dataset(recipe.build(findings.recipe["data"], Dataset), folder)


def test_folders_of_classes_with_all_that_folders_contain(tmp_path: Path) -> None:
    root = tmp_path / "pets"
    for split, count in (("train", 12), ("val", 4)):
        for number, name in enumerate(("cat", "dog")):
            for i in range(count):
                save(root / split / name / f"{i}.png", 100 * number + 20 * (split == "val") + i)
    save(root / "train" / "dog" / ".ipynb_checkpoints" / "0.png", 100)
    save(root / "val" / "cat" / "same.png", 3)  # as train/cat/3.png
    save(root / "train" / "dog" / "same.png", 4)  # as train/cat/4.png
    (root / "train" / "dog" / "broken.png").write_bytes(b"x")
    (root / "train" / "dog" / "a.heic").write_bytes(b"x")
    Image.fromarray(np.full((8, 8), 4000, np.uint16)).save(root / "train" / "cat" / "deep.png")
    exif = Image.Exif()
    exif[274] = 6
    save(root / "train" / "cat" / "turned.jpg", 200, (16, 8), exif=exif)
    (root / "train" / "cat" / "link.png").symlink_to(tmp_path / "nowhere")
    save(root / "train" / "cat" / "1.PNG", 70)
    findings = inspect(root)
    assert findings.layout.startswith("folders of classes")
    assert findings.counts == {"train": {"cat": 15, "dog": 14}, "val": {"cat": 5, "dog": 4}} or findings.counts == {
        "train": {"cat": 15, "dog": 14},
        "validation": {"cat": 5, "dog": 4},
    }
    odd = "\n".join(findings.odd)
    for part in (
        "1 file in folders called .ipynb_checkpoints: passed over",
        "train/cat/link.png: a link to nothing",
        "train/cat/1.png: differs from train/cat/1.PNG in case",
        "dog/broken.png: damaged or not a picture",
        "train/cat/deep.png: more than 8 bits, levels 4000 to 4000",
        "train/cat/turned.jpg: turned by its EXIF orientation",
        "train/cat/3.png = val/cat/same.png: equal pictures in two splits",
        "train/cat/4.png = train/dog/same.png: equal pictures in two classes",
        "1 file .heic: can't be read here; convert them to JPEG or PNG",
    ):
        assert part in odd, odd
    assert findings.recipe is not None
    data = findings.recipe["data"]
    assert data == {
        "use": "data.image_folder.ImageFolder",
        "folder": str(root),
        "size": 32,
        "levels": [0, 4095],
        "bad": "skip",
        "conflicts": "drop",
    }
    assert "sizes: 2 different, widths 8 to 8, heights 8 to 16" in findings.facts[0]
    assert 0 < len(findings.samples) <= 24
    (root / "train" / "cat" / "link.png").unlink()
    assert set(prepare(findings, tmp_path / "out")["splits"]) == {"train", "validation", "test"}


def test_a_table_of_pictures(tmp_path: Path) -> None:
    for i in range(30):
        save(tmp_path / "img" / f"{i}.png", 8 * i)
    lines = [f"{i}.png,{'ab'[i % 2]}" for i in range(30)]
    (tmp_path / "labels.csv").write_text("\n".join(["file,kind", *lines, "none.png,a"]))
    findings = inspect(tmp_path)
    assert findings.layout.startswith("pictures and a table")
    assert any("row 31: no picture 'none.png'" in line for line in findings.odd)
    assert findings.recipe is not None
    assert findings.recipe["data"] | {"file": "", "folder": ""} == {
        "use": "data.image_table.ImageTable",
        "file": "",
        "folder": "",
        "image": "file",
        "label": "kind",
        "size": 32,
        "bad": "skip",
    }
    assert prepare(findings, tmp_path / "out")["classes"] == ["a", "b"]
    (tmp_path / "labels.csv").write_text("\n".join(["file,age", *(f"{i}.png,{20 + i * 0.5}" for i in range(30))]))
    assert inspect(tmp_path).recipe["task"]["use"] == "tasks.picture_regression.PictureRegression"  # type: ignore[index]
    tags = [f"{i}.png,{'red' if i % 2 else ''} {'big' if i % 3 else ''}" for i in range(30)]
    (tmp_path / "labels.csv").write_text("\n".join(["file,tags", *tags]))
    assert inspect(tmp_path).recipe["task"]["use"] == "tasks.multi_label.MultiLabel"  # type: ignore[index]


def test_a_table_of_texts(tmp_path: Path) -> None:
    lines = [f"{'spam' if i % 5 == 0 else 'ham'},“word” number {i} of the set," for i in range(60)]
    lines += ["ham,the same text twice,", "spam,the same text twice,", "ham,text,with more"]
    (tmp_path / "a.csv").write_bytes("\r\n".join(["v1,v2,", *lines]).encode("cp1252"))
    findings = inspect(tmp_path / "a.csv")
    assert findings.counts["rows"] == {"ham": 50, "spam": 13}
    odd = "\n".join(findings.odd)
    assert "read as cp1252" in odd
    assert "1 rows have values in columns without a name" in odd
    assert "several labels for the text: the same text twice" in odd
    assert findings.recipe is not None
    assert findings.recipe["data"]["conflicts"] == "drop"
    assert findings.recipe["task"]["weights"] == "balanced"
    assert prepare(findings, tmp_path / "out")["classes"] == ["ham", "spam"]


def test_tables_of_splits_are_used_together(tmp_path: Path) -> None:
    for name, start, count in (("train", 0, 60), ("dev", 60, 9), ("test", 70, 9)):
        lines = [f"{i % 2}\ta text of number {i}" for i in range(start, start + count)]
        (tmp_path / f"{name}.tsv").write_text("\n".join(["label\tsentence", *lines]))
    findings = inspect(tmp_path)
    manifest = prepare(findings, tmp_path / "out")
    assert {split: entry["rows"] for split, entry in manifest["splits"].items()} == {
        "train": 60,
        "validation": 9,
        "test": 9,
    }


def test_pairs_with_a_class_or_a_score_are_for_a_pretrained_bert(tmp_path: Path) -> None:
    file = tmp_path / "pairs.csv"
    lines = [f"the {w} is here now,is there a {w} today,{k % 2},{k / 7:.3f}" for k, w in enumerate("abcdefghij" * 6)]
    file.write_text("\n".join(["premise,claim,entails,likeness", *lines, "alone in here,,1,2"]))
    findings = inspect(file)
    assert findings.recipe is not None
    expected = {"text": "premise", "pair": "claim", "label": "entails", "bad": "skip"}
    assert findings.recipe["data"] == {"use": "data.sentence_table.SentenceTable", "file": str(file)} | expected
    assert findings.recipe["task"]["use"] == "tasks.sentences.SentenceClassification"
    assert findings.odd == ["row 61: a text, class or score is missing"]
    manifest = prepare(findings, tmp_path / "prepared")
    assert sum(split["rows"] for split in manifest["splits"].values()) == 60
    file.write_text("\n".join(["a\tb\tlikeness", *(f"x {n} y z\tx {n} w v\t{n / 7:.3f}" for n in range(60))]))
    scored = inspect(file).recipe
    assert scored is not None
    assert (scored["data"]["score"], scored["task"]["use"]) == (
        "likeness",
        "tasks.sentence_regression.SentenceRegression",
    )
    mails = tmp_path / "mails.csv"
    mails.write_text("\n".join(["subject,body,spam", *(f"to you {n},{'word ' * 60} {n},{n % 2}" for n in range(60))]))
    other = inspect(mails)
    assert other.recipe is not None
    assert other.recipe["data"]["use"] == "data.text_table.TextTable"
    assert any("data.sentence_table.SentenceTable" in reason for reason in other.reasons)


def test_pairs_in_a_table_and_in_aligned_files(tmp_path: Path) -> None:
    english = [f"this is sentence number {i}" for i in range(80)]
    french = [f"ceci est la phrase numéro {i}" for i in range(80)]
    table, files = tmp_path / "table", tmp_path / "files"
    table.mkdir()
    files.mkdir()
    pairs = [dict(zip(("en", "fr"), pair, strict=True)) for pair in zip(english, french, strict=True)]
    (table / "a.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    for name, lines in (("train.en", english[:60]), ("train.fr", french[:60]), ("val.en", english[60:])):
        (files / name).write_text("\n".join(lines))
    (files / "val.fr").write_text("\n".join(french[60:]))
    for place in (table / "a.jsonl", files):
        findings = inspect(place)
        assert "80 pairs" in findings.facts or "60 pairs" in findings.facts
        assert "source" in prepare(findings, tmp_path / "out" / place.name)["columns"]
    (files / "train.fr").write_text("short")
    assert any("60 lines in en and 1 in fr" in line for line in inspect(files).odd)


def test_numbers_over_time(tmp_path: Path) -> None:
    lines = [f"2024-01-{1 + i // 24:02d} {i % 24:02d}:00,{np.sin(i):.3f},{i % 7}.5" for i in range(400)]
    lines[50] = lines[50].replace(lines[50].split(",")[1], "", 1)
    (tmp_path / "power.csv").write_text("\n".join(["date,load,heat", *lines]))
    findings = inspect(tmp_path / "power.csv")
    assert findings.layout.startswith("a table of numbers over time")
    assert any("column 'load': empty in 1 rows" in line for line in findings.odd)
    manifest = prepare(findings, tmp_path / "out")
    assert manifest["classes"] == ["load", "heat"]


def test_plain_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("It was the best of times, it was the worst of times. " * 80)
    assert prepare(inspect(tmp_path), tmp_path / "out")["columns"]["token"]["shape"] == [65]


def test_boxes_and_masks_are_counted_and_faults_listed(tmp_path: Path) -> None:
    voc = tmp_path / "voc"
    for i in range(3):
        save(voc / "images" / f"{i}.jpg", 40 * i, (40, 30))
    box = "<bndbox><xmin>{}</xmin><ymin>2</ymin><xmax>{}</xmax><ymax>9</ymax></bndbox>"
    for i, ends in enumerate([(1, 20), (5, 5), (1, 90)]):
        (voc / "annotations").mkdir(exist_ok=True)
        content = f"<annotation><object><name>owl</name>{box.format(*ends)}</object></annotation>"
        (voc / "annotations" / f"{i}.xml").write_text(content)
    (voc / "annotations" / "9.xml").write_text("<annotation/>")
    findings = inspect(voc)
    assert findings.layout.startswith("Pascal VOC")
    assert findings.counts == {"boxes": {"owl": 3}}
    for part in ("9.xml: no picture", "1.xml: a box without an area", "2.xml: a box beyond its picture of 40 x 30"):
        assert any(part in line for line in findings.odd), findings.odd
    coco = tmp_path / "coco"
    save(coco / "images" / "a.jpg", 9)
    record = {
        "images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}],
        "annotations": [{"id": 5, "image_id": 1, "category_id": 3, "bbox": [0, 0, 0, 4]}],
        "categories": [{"id": 3, "name": "owl"}],
    }
    (coco / "instances.json").write_text(json.dumps(record))
    findings = inspect(coco)
    assert findings.layout.startswith("COCO")
    assert findings.counts == {"instances": {"owl": 1}}
    assert [line for line in findings.odd if "b.jpg" in line or "object 5 without an area" in line]
    masks = tmp_path / "masks"
    for split in ("train", "val"):
        for i in range(3):
            save(masks / split / f"{i}.png", 9 * i)
            (masks / f"{split}annot").mkdir(exist_ok=True)
            Image.fromarray(np.full((8, 8), i, np.uint8)).save(masks / f"{split}annot" / f"{i}.png")
    findings = inspect(masks)
    assert findings.layout.startswith("pictures with a label picture each")
    assert findings.counts["train"] == {"pictures": 3, "masks": 3}
    assert findings.recipe is not None
    assert findings.recipe["data"]["masks"] == "{split}annot/{name}.png"
    objects = tmp_path / "objects"
    for i in range(3):
        save(objects / "all" / f"p{i}" / "images" / f"{i}.png", 9 * i)
        save(objects / "all" / f"p{i}" / "masks" / "m.png", 9 * i)
    findings = inspect(objects)
    assert findings.recipe is not None
    assert findings.recipe["data"]["masks"] == "all/{name}/masks/*.png"


def test_text_labels_of_yolo(tmp_path: Path) -> None:
    root = tmp_path / "owls"
    for i in range(24):
        split = "train" if i < 18 else "valid"
        save(root / split / "images" / f"{i}.jpg", 9 * i, (40, 30))
        (root / split / "labels").mkdir(exist_ok=True)
        (root / split / "labels" / f"{i}.txt").write_text(f"{i % 2} 0.5 0.5 0.{i % 6 + 2} 0.5\n")
    (root / "train" / "labels" / "0.txt").write_text(
        "0 0.5 0.5 0.4 0.4\n0 0.5 0.5 40 40\n0 0.5 0.5 0 0.1\n9 0.5 0.5 0.1 0.1"
    )
    (root / "train" / "labels" / "x.txt").write_text("0 0.5 0.5 0.4 0.4\n")
    (root / "train" / "labels" / "2.txt").unlink()
    (root / "data.yaml").write_text("names: [owl, cat, dog]\nnc: 3")
    findings = inspect(root)
    assert findings.layout.startswith("YOLO")
    assert findings.counts == {"train": {"owl": 8, "cat": 9}, "validation": {"owl": 3, "cat": 3}}
    odd = "\n".join(findings.odd)
    for part in (
        "train/labels/0.txt line 2: the box -19.5, -19.5, 20.5, 20.5 is in pixels",
        "train/labels/0.txt line 3: the box 0.5, 0.45, 0.5, 0.55 has no area",
        "train/labels/0.txt line 4: class 9 is not one of the 3 named ones",
        "train/labels/x.txt: boxes without a picture",
        "1 pictures without a text file, such as train/images/2.jpg: they show no object",
        "class 'dog': no box has it",
    ):
        assert part in odd, odd
    manifest = prepare(findings, tmp_path / "out")
    assert {split: entry["rows"] for split, entry in manifest["splits"].items()} == {"train": 18, "test": 6}
    for file in root.rglob("*.txt"):
        file.write_text("a caption of this picture with words\n")
    assert not inspect(root).layout.startswith("YOLO")


@pytest.mark.parametrize("name", ["nothing", "a.zip", "empty"])
def test_what_cannot_be_inspected_gets_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK")
    (tmp_path / "empty").mkdir()
    with pytest.raises(Refusal, match=r"no such file|is packed; unpack it|holds no visible file"):
        inspect(tmp_path / name)


def test_other_files_are_counted(tmp_path: Path) -> None:
    for name in ("a.exe", "a.zip", "b.zip"):
        (tmp_path / name).write_bytes(b"MZ")
    findings = inspect(tmp_path)
    assert findings.recipe is None
    assert findings.odd == [
        "1 file .exe: passed over",
        "2 files .zip: packed; unpack what belongs to the data, then inspect again",
    ]


def test_a_long_table_is_examined_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_layouts, "EXAMINED", 100)
    lines = [f"{'ab'[i % 2]},a text of number {i}" for i in range(400)]
    (tmp_path / "a.csv").write_text("\n".join(["label,text", *lines]))
    findings = inspect(tmp_path / "a.csv")
    assert sum(findings.counts["rows"].values()) == 100
    assert f"{tmp_path}/a.csv: the first 100 of 400 rows are examined; a fit reads all" in findings.odd
    manifest = prepare(findings, tmp_path / "out")
    assert sum(split["rows"] for split in manifest["splits"].values()) == 400


def test_pairs_are_found_by_their_names_and_scores_by_their_fractions(tmp_path: Path) -> None:
    long = "a premise with many more words than its hypothesis has, as in corpora of entailment " * 2
    lines = [f"{i}\t{long}{i}\tIs short {i}.\t{'yes' if i % 2 else 'no'}" for i in range(60)]
    (tmp_path / "train.tsv").write_text("\n".join(["index\tsentence1\tsentence2\tlabel", *lines]))
    (tmp_path / "dev.tsv").write_text("\n".join(["index\tsentence1\tsentence2\tlabel", *lines[:9], "1\t2"]))
    (tmp_path / "test.tsv").write_text("\n".join(["index\tpremise\tsentence2\tlabel", *lines[:9]]))
    findings = inspect(tmp_path)
    assert findings.recipe is not None
    data = findings.recipe["data"]
    assert (data["text"], data["pair"], data["label"]) == ("sentence1", "sentence2", "label")
    assert (data["validation_file"], data["bad"]) == (str(tmp_path / "dev.tsv"), "skip")
    assert findings.odd == [
        "test.tsv: looks like the test split, but has no column 'sentence1'; not used"
        " (it has 'index', 'premise', 'sentence2', 'label')",
        f"{tmp_path}/dev.tsv row 11: 2 values, not 4",
    ]
    scored = [f"{'ab'[i % 2]}-news;2012;{i};{i % 11 / 2};one sentence {i};another sentence {i}" for i in range(60)]
    (tmp_path / "sts.csv").write_text("\n".join([*scored, *(["a;b;c;d;e;f;g"] * 3), scored[0], "a;b"]))
    findings = inspect(tmp_path / "sts.csv")
    assert findings.recipe is not None
    assert findings.recipe["data"] | {"text": "5", "pair": "6", "score": "4"} == findings.recipe["data"]
    assert findings.odd == [
        f"{tmp_path}/sts.csv rows 61-63 (3): 7 values, not 6",
        f"{tmp_path}/sts.csv row 65: 2 values, not 6",
    ]
    assert "other columns that could be meant: 1" in findings.reasons


@pytest.mark.parametrize(
    ("names", "pair"),
    [
        (["text_a", "text_b", "note on it"], ("text_a", "text_b")),
        (["data.Question1", "data.Question2"], ("data.Question1", "data.Question2")),
        (["note on it", "hypothesis", "premise"], ("premise", "hypothesis")),
        (["data", "beta", "pizza"], None),
    ],
)
def test_names_of_pairs(tmp_path: Path, names: list[str], pair: tuple[str, str] | None) -> None:
    lines = ["\t".join(f"text {i} of column {name}" for name in names) for i in range(30)]
    (tmp_path / "a.tsv").write_text("\n".join(["\t".join(names), *lines]))
    assert table_layouts.find_pair(read_table(tmp_path / "a.tsv"), names) == pair


def test_lists_of_pictures_and_their_splits(tmp_path: Path) -> None:
    for i in range(60):
        save(tmp_path / "images" / f"{'ab'[i % 2]}_{i}.jpg", 4 * i)
    lines = [f"{'ab'[i % 2]}_{i} {i % 2 + 1} 1 {i}" for i in range(60)]
    (tmp_path / "README").write_text("no table")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "test.txt").write_text("\n".join(lines[40:]) + "\n")
    (tmp_path / "annotations" / "trainval.txt").write_text("\n".join(lines[:40]) + "\n")
    findings = inspect(tmp_path)
    assert findings.recipe is not None
    data = findings.recipe["data"]
    assert (data["image"], data["label"], data["delimiter"]) == ("1", "2", " ")
    assert data["test_file"] == str(tmp_path / "annotations" / "test.txt")
    manifest = prepare(findings, tmp_path / "out")
    assert {split: entry["rows"] for split, entry in manifest["splits"].items()} == {"train": 40, "test": 20}
    (tmp_path / "annotations" / "test.txt").write_text("a text\n")
    (tmp_path / "annotations" / "trainval.txt").write_text("another text\n")
    assert inspect(tmp_path).recipe is None  # a few texts beside pictures are not a corpus


def test_the_table_of_labels_is_not_the_sample_submission(tmp_path: Path) -> None:
    for i in range(40):
        save(tmp_path / ("train" if i < 30 else "test") / f"{i:03d}.jpg", 6 * i)
    (tmp_path / "sample_submission.csv").write_text("id,kind\n" + "\n".join(f"{i:03d},a" for i in range(30, 40)))
    (tmp_path / "labels.csv").write_text("id,kind\n" + "\n".join(f"{i:03d},{'ab'[i % 2]}" for i in range(30)))
    (tmp_path / "test.csv").write_text("id,note\n" + "\n".join(f"{i:03d},x" for i in range(30, 40)))
    findings = inspect(tmp_path)
    assert findings.recipe is not None
    assert findings.recipe["data"]["file"] == str(tmp_path / "labels.csv")
    assert findings.odd == [
        "sample_submission.csv: another table; not used",
        "test.csv: another table; not used",
        "10 pictures without a row in a table: passed over",
    ]


def test_a_table_in_several_files_is_one(tmp_path: Path) -> None:
    lines = [f"a text of number {i},{'ab'[i % 2]}" for i in range(90)]
    for name, part in (("train-00000-of-00002", 0), ("train-00001-of-00002", 1), ("test-00000-of-00001", 2)):
        content = "\n".join(["text,label", *lines[30 * part : 30 * part + 30], *["a,b,c"] * part])
        (tmp_path / f"{name}.csv").write_text(content)
    findings = inspect(tmp_path)
    assert sum(findings.counts["rows"].values()) == 60
    assert findings.odd == [
        f"{tmp_path}/train-00001-of-00002.csv row 32: 3 values, not 2",
        f"{tmp_path}/test-00000-of-00001.csv rows 32-33 (2): 3 values, not 2",
    ]
    manifest = prepare(findings, tmp_path / "out")
    assert {split: entry["rows"] for split, entry in manifest["splits"].items()} == {"train": 60, "test": 30}


def test_sorted_tables_and_further_splits(tmp_path: Path) -> None:
    pairs = [("Go.", "Va !")] * 2500 + [(f"I saw it {i} times.", f"Je l'ai vu {i} fois.") for i in range(2500)]
    (tmp_path / "fra.txt").write_text("".join(f"{a}\t{b}\n" for a, b in pairs))
    assert inspect(tmp_path).layout.startswith("a table of sentence pairs")
    (tmp_path / "fra.txt").unlink()
    for name in ("valid", "test"):
        (tmp_path / f"wiki.{name}.txt").write_text("It was the best of times, it was the worst of times. " * 80)
    assert inspect(tmp_path).odd == [
        "wiki.test.txt, wiki.valid.txt: look like splits, but are read as one text; name one as path"
    ]
    for name in ("train", "val", "dev"):
        lines = [f"{name} text of number {i},{'ab'[i % 2]}" for i in range(40)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["text,label", *lines]))
    assert inspect(tmp_path).odd[0] == f"val.csv: not used, because {tmp_path}/dev.csv is the validation split"
    (tmp_path / "squad.json").write_text('{"version": 1,\n"data": []}')
    odd = inspect(tmp_path / "squad.json").odd
    assert odd == [f"{tmp_path}/squad.json: holds neither a JSON object per line nor a list of them; convert it"]


def test_fine_tuning_on_many_pairs_is_proposed_for_some(tmp_path: Path) -> None:
    lines = [f"the first text {i}\tthe second text {i}\t{'ab'[i > 2000]}" for i in range(4000)]
    (tmp_path / "a.tsv").write_text("\n".join(["sentence1\tsentence2\tlabel", *lines]))
    findings = inspect(tmp_path)
    assert findings.recipe is not None
    assert findings.recipe["data"]["limit"] == 3200
    assert findings.recipe["fit"]["epochs"] == 1
    assert findings.reasons[-1].startswith("limit: 3,200 of 4,000 examples, so that a fit takes minutes")
    del findings.recipe["data"]["limit"]
    data = recipe.build(findings.recipe["data"] | {"limit": 100}, Dataset)
    labels = [example["label"] for example in data.examples("train", 0) if isinstance(example, dict)]
    assert 40 < sum(labels) < 60  # a sorted table has both classes in it
