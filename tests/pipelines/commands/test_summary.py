"""The summary that `make run` ends with."""

from __future__ import annotations

import html
import json
from pathlib import Path

import pytest

from components.files import write_json
from pipelines import door
from pipelines.commands import summary
from pipelines.reports import report
from pipelines.stage import outputs


def test_the_summary_has_accuracies_values_durations_and_links(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = "http://127.0.0.1:5000/#/compare-runs?runs="
    links = {"curves": "http://127.0.0.1:5000/#/experiments/1/runs", "fits compared": f"{page}1,2"}
    write_json(".trainyard/links.json", links | {"search, finetuned": f"{page}3,4"})
    Path("reports").mkdir()
    Path("reports/index.html").touch()
    assert summary.main() == 0
    assert capsys.readouterr().out.splitlines() == [
        "",
        "glyphs-to-digits",
        "  test accuracy  fine-tuned     0.9514  [0.9433, 0.9588]    ± 0.0029 over 2 seeds",
        "  95% intervals  from scratch   0.8832  [0.8705, 0.8955]    ± 0.0084 over 2 seeds",
        "                 gain          +0.0682  [+0.0561, +0.0802]  won on 2 of 2 seeds",
        "                 constant       0.1018  always the most frequent training class",
        "  best values    fine-tuned    learning rate 0.0822  batch size 16      of 3 trials",
        "                 from scratch  learning rate 0.1     batch size 32      of 2 trials",
        "  seconds        prepare 13  evaluate 5  in all 18",
        f"  report         file://{results.resolve()}/reports/index.html",
        "  MLflow         make ui  (trainyard ui) prints links to the searches and the families, too",
        "                 curves: http://127.0.0.1:5000/#/experiments/1/runs",
        "                 fits compared: http://127.0.0.1:5000/#/compare-runs?runs=1,2",
    ]


def test_the_seconds_of_other_recipes_are_not_counted(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outputs.write_seconds("fit", {"total": 100.0})
    assert summary.main() == 0
    assert "prepare 13  evaluate 5  in all 18" in capsys.readouterr().out


def test_rare_classes_and_a_perfect_score_are_cautioned(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metrics = json.loads(Path("metrics/evaluate.json").read_text())
    write_json("metrics/evaluate.json", metrics | {"accuracy": 1.0, "examples": 2})
    manifest = json.loads(Path("data/prepared/target/manifest.json").read_text())
    manifest["splits"]["train"]["class_counts"] = {"cat": 50, "fox": 50}
    manifest["splits"]["test"]["class_counts"] = {"cat": 2, "fox": 0}
    write_json("data/prepared/target/manifest.json", manifest)
    sentences = [
        "1.0 on 2 examples shows only that the true score is at least 0.224 (at 95%)",
        "est has no example of 'fox': no score covers them",
        "est has fewer than 10 examples of 'cat' 2: their scores are mostly chance",
    ]
    assert summary.main() == 0
    output = capsys.readouterr().out
    assert all(sentence in output for sentence in sentences)
    page = html.unescape(report.write_report()[0].read_text())
    assert all(sentence in page for sentence in sentences)
    assert "constant answer" in page


def test_missing_files_are_left_out_or_replaced_by_their_command(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(".trainyard/seconds.json").unlink()
    assert summary.main() == 0
    output = capsys.readouterr().out
    assert "seconds" not in output
    assert "make report  (trainyard report)" in output
    assert "http://127.0.0.1:5000" in output


@pytest.mark.parametrize("path", ["metrics/evaluate.json", "tune/best.json"])
def test_before_the_first_run_it_names_the_command(
    results: Path, path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(path).unlink()
    assert door.main(["summary"]) == 2
    assert capsys.readouterr().err == f"trainyard: {path}: does not exist yet; run the pipeline first (make run)\n"
