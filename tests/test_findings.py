"""Check on the records what each search shows, as its recipe's header and docs/decisions.md state it.

`tests/findings.py` holds at least one comparison of trials for every recipe with a search, or the
reason why there is none. `trainyard results --measure RECIPE` writes the trials that are compared.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from components.recipes import recipe
from pipelines.commands.results import record
from tests.findings import FINDINGS, NOTHING_COMPARED, Finding, Values

ROOT = Path(__file__).parent.parent
Trials = list[dict[str, Any]]
SEARCHES = {
    f"{path.parent.name}/{path.stem}": path.relative_to(ROOT)
    for path in sorted(ROOT.glob("pipelines/*/*.yaml"))
    if path.name != "dvc.yaml" and "tune" in recipe.load(path)
}


def select_trials(trials: Trials, values: Values) -> Trials:
    """Return the trials with the values."""
    allowed = {key: value if isinstance(value, tuple) else (value,) for key, value in values.items()}
    return [trial for trial in trials if all(trial.get(key) in choices for key, choices in allowed.items())]


def check_finding(trials: Trials, finding: Finding) -> None:
    """Compare each pair of trials that the finding names; raise AssertionError where one of them contradicts it."""
    high, low = select_trials(trials, finding.high), select_trials(trials, finding.low)
    pairs = [(more, less) for more in high for less in low if more is not less]
    assert pairs, "no trials have these values"
    for more, less in pairs:
        difference = more[finding.score] - less[finding.score]
        spread = max(trial.get(f"{finding.score}_std", 0.0) for trial in (more, less))
        if finding.least is None:
            assert abs(difference) <= spread, f"they differ by {difference:.3g}, more than the spread of {spread:.3g}"
        else:
            assert difference >= finding.least, f"the difference is {difference:.3g}: {more} and {less}"
            assert finding.same_fits or finding.least > spread, f"within the spread of {spread:.3g}"


def test_every_search_has_a_finding_or_a_reason_why_not() -> None:
    assert len(SEARCHES) > 30
    assert SEARCHES.keys() == FINDINGS.keys() | NOTHING_COMPARED.keys()
    assert not FINDINGS.keys() & NOTHING_COMPARED.keys()
    assert [name for name, findings in FINDINGS.items() if not findings] == []
    assert [name for name, path in SEARCHES.items() if not (ROOT / record.record_path(path)).is_file()] == []


@pytest.mark.parametrize(
    ("name", "finding"),
    [
        pytest.param(name, finding, id=f"{name}: {finding.claim}")
        for name, findings in FINDINGS.items()
        for finding in findings
    ],
)
def test_the_record_shows_the_finding(name: str, finding: Finding, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    measured = record.read_record(SEARCHES[name])
    assert measured is not None
    check_finding(measured.trials, finding)


TRIALS = [{"rate": 0.1, "score": 0.9, "score_std": 0.05}, {"rate": 1.0, "score": 0.5, "score_std": 0.1}]


@pytest.mark.parametrize(
    ("high", "low", "least"),
    [(0.1, 1.0, 0.3), ((0.1, 1.0), (0.1, 1.0), -1.0)],
)
def test_a_true_finding_holds(high: Any, low: Any, least: float) -> None:
    finding = Finding("", "score", {"rate": high}, {"rate": low}, least, same_fits=least < 0)
    check_finding(TRIALS, finding)


@pytest.mark.parametrize(
    ("high", "low", "least"),
    [(1.0, 0.1, 0.3), (0.1, 1.0, 0.5), (0.1, 1.0, 0.1), (0.1, 1.0, None), (0.1, 3.0, 0.3), (0.1, 0.1, 0.3)],
)
def test_a_false_finding_is_noticed(high: float, low: float, least: float | None) -> None:
    with pytest.raises(AssertionError):
        check_finding(TRIALS, Finding("", "score", {"rate": high}, {"rate": low}, least))
