"""Compare the families' pages, pipelines/*/README.md, with their records, and the contract's page with the code."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from pipelines.commands import compare
from pipelines.commands.results.record import format_spread, read_record

ROOT = Path(__file__).parent.parent
PAGES = sorted(path.relative_to(ROOT) for path in ROOT.glob("pipelines/*/README.md"))
COMPARED = {path: text for path in PAGES if compare.MARKS[0] in (text := (ROOT / path).read_text())}
OF_RECORDS = [path for path, text in COMPARED.items() if "| seeds |" in text.partition(compare.MARKS[0])[2]]


def read_cells(page: Path, title: str) -> list[list[str]]:
    """Return the cells of the page's table whose first column has this title, without its two head lines."""
    lines = (ROOT / page).read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {title} |")) + 2
    rows = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


@pytest.mark.parametrize("page", OF_RECORDS, ids=lambda page: page.parent.name)
def test_a_comparison_of_records_is_current(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    shown = COMPARED[page].partition(compare.MARKS[0])[2].partition("\n\n![")[0].strip()
    assert shown == compare.format_table(compare.read_records(page.parent)), (
        f"run: trainyard compare {page.parent} --records --readme"
    )


def test_comparisons_are_of_records_where_all_systems_have_one() -> None:
    """Fashion-MNIST's networks for a GPU have no record, so its page compares single runs."""
    assert [page.parent.name for page in COMPARED if page not in OF_RECORDS] == ["fashion"]


def test_the_page_of_language_models_shows_their_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    rows = read_cells(Path("pipelines/language/README.md"), "recipe")
    assert len(rows) == 7
    for name, _, _, perplexity, bits, seeds in rows:
        record = read_record(Path(f"pipelines/language/{name.strip('`')}.yaml"))
        assert record is not None
        scores = record.scores
        assert (perplexity, bits) == (format_spread(scores["perplexity"]), f"{np.mean(scores['bits']):.2f}"), name
        assert int(seeds) == len(record.seeds), name
    shakespeare = read_record(Path("pipelines/language/lstm-shakespeare.yaml"))
    assert shakespeare is not None
    text = " ".join((ROOT / "pipelines/language/README.md").read_text().split())
    assert f"a validation loss of {np.mean(shakespeare.scores['loss']):.3f} nats per character" in text


def test_the_page_of_transfer_shows_its_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare each arm at the best of its learning rates, in the table and in the text below it."""
    monkeypatch.chdir(ROOT)
    record = read_record(Path("pipelines/transfer/finetune.yaml"))
    assert record is not None
    bodies = {"frozen": 0.0, "a tenth of the head's rate": 0.1, "the head's rate": 1.0}
    rows = read_cells(Path("pipelines/transfer/README.md"), "body")
    assert [row[0] for row in rows] == list(bodies)
    for body, *cells in rows:
        for start, cell in zip(("results/transfer/source/model", None), cells, strict=True):
            arm = [
                trial
                for trial in record.trials
                if (trial["task.start"], trial["task.body_rate"]) == (start, bodies[body])
            ]
            best = max(arm, key=lambda trial: trial["accuracy"])
            assert cell == f"{best['accuracy']:.3f} ± {best['accuracy_std']:.3f}", (body, start)
    assert f"test accuracy of {record.scores['accuracy'][0]:.4f}" in (ROOT / "pipelines/transfer/README.md").read_text()


def test_the_page_of_the_contract_names_every_file_of_training() -> None:
    cells = [row[0] for row in read_cells(Path("docs/contract.md"), "file")]
    named = set(re.findall(r"`(\w+\.py)`", " ".join(cells)))
    assert named == {path.name for path in ROOT.glob("components/training/*.py")} - {"__init__.py"}
