"""Every door to a user's own data, from `trainyard inspect --write` to the scores and pictures of a short fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from components.recipes import recipe
from components.training.peers import Peers
from pipelines.door import main
from pipelines.workers.records import FitJob
from pipelines.workers.training import fit_and_score
from tests.components.inspection import test_odd_layouts as layouts


def series(root: Path) -> None:
    hours = [f"2024-01-{1 + i // 24:02d} {i % 24:02d}:00;{np.sin(i / 4):.4f};{i % 24}" for i in range(600)]
    (root / "power.csv").write_text("date;load;hour\n" + "\n".join(hours))


def ages(root: Path) -> None:
    layouts.absolute_paths(root)
    lines = [f"{i}.png,{20 + i * 0.5}" for i in range(20)]
    (root / "a.csv").write_text("\n".join(["path,age", *lines]))


def tags(root: Path) -> None:
    layouts.absolute_paths(root)
    lines = [f"{i}.png,{i % 2},{int(i % 3 == 0)}" for i in range(20)]
    (root / "a.csv").write_text("\n".join(["path,red,big", *lines]))


def masks_of_objects(root: Path) -> None:
    for i in range(12):
        layouts.picture(root / f"p{i}" / "images" / f"{i}.png")
        layouts.mask(root / f"p{i}" / "masks" / "0.png", [255, 0])
        layouts.mask(root / f"p{i}" / "masks" / "1.png", [0, 255])


def plain_text(root: Path) -> None:
    (root / "a.txt").write_text("It was the best of times, it was the worst of times. " * 200)


DOORS: dict[Callable[[Path], None], str] = {  # what is written -> a score of the fit
    layouts.wrapped_classes: "accuracy",
    layouts.windows_paths: "accuracy",
    tags: "macro_f1",
    ages: "mae",
    layouts.voc_side_by_side: "map50",
    layouts.coco_of_windows: "map50",
    layouts.yolo_in_capitals: "map50",
    layouts.binary_masks: "mean_iou",
    masks_of_objects: "mean_iou",
    layouts.nested_fields: "macro_f1",
    layouts.text_files_of_classes: "macro_f1",
    layouts.pairs_between_tabs: "bleu",
    series: "mae",
    plain_text: "perplexity",
}


QUICK = (layouts.windows_paths, layouts.voc_side_by_side, layouts.yolo_in_capitals, layouts.binary_masks, series)


@pytest.mark.parametrize(
    "write",
    [pytest.param(write, marks=[] if write in QUICK else [pytest.mark.slow]) for write in DOORS],
    ids=lambda write: write.__name__,
)
def test_inspect_plan_and_fit_lead_from_files_to_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, write: Callable[[Path], None]
) -> None:
    monkeypatch.chdir(tmp_path)
    place = Path("data/raw/mine")
    place.mkdir(parents=True)
    write(place)
    assert main(["inspect", str(place), "--write", "mine"]) == 0
    assert "dvc repro pipelines/own/dvc.yaml:fit@mine" in capsys.readouterr().out
    assert main(["plan", "pipelines/own/mine.yaml"]) == 0
    assert "pipelines/own/mine.yaml: fine" in capsys.readouterr().out
    content = recipe.load("pipelines/own/mine.yaml")
    section = {"task": content["task"], "fit": content["fit"] | {"epochs": 1}}
    out = tmp_path / "out" / "model"
    out.parent.mkdir()
    result = fit_and_score(Peers(), content["data"], "prepared", FitJob(section, run="run", out=str(out), seed=0))
    assert result is not None
    assert result.split == "test"
    assert np.isfinite(result.scores[DOORS[write]]), result.scores
    assert all(Path(file).stat().st_size > 0 for file in result.pictures)
