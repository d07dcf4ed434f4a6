"""Kills of several calls are one series: stored, continued, reported together, and refused for other code."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.errors import Refusal
from pipelines.commands.kills import Kill, Portion, Series, print_report


def portion(*kinds: str, lost: int = 0, doubled: int = 0, different: tuple[str, ...] = ()) -> Portion:
    kills = [Kill(kind, "tune", 10.0 + number) for number, kind in enumerate(kinds)]
    return Portion(kills, 1, 10, list(different), 1000, lost, doubled, 150.0)


def test_a_series_continues_in_its_file(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    file = tmp_path / "kills.json"
    first = Series(file, code="a", settings="b")
    first.expected, first.undisturbed_seconds = {"models/x": "digest"}, 100.0
    first.portions.append(portion("dvc", "node"))
    first.save()
    second = Series(file, code="a", settings="b")
    assert (second.expected, second.undisturbed_seconds) == (first.expected, 100.0)
    assert second.portions == first.portions
    second.portions.append(portion("dvc", "stage", "dvc"))
    second.save()
    assert print_report(Series(file, code="a", settings="b").portions, 100.0) == 0
    output = capsys.readouterr().out
    for line in (
        "kills                                5 (3 dvc, 1 node, 1 stage)",
        "runs                                 2",
        "command repeated                     2 times",
        "files equal                          20 of 20",
        "points sent                          2,000, lost 0, doubled 0",
        "seconds lost per kill                20.0 (repeated work, starting again)",
        "seconds to the next step, dvc        10.0 (median of 3)",
    ):
        assert line in output


@pytest.mark.parametrize("fault", [{"lost": 1}, {"doubled": 1}, {"different": ("models/x",)}])
def test_a_loss_in_any_portion_fails_the_series(fault: dict, capsys: pytest.CaptureFixture) -> None:
    assert print_report([portion("dvc"), portion("dvc", **fault)], None) == 1
    assert ("DIFFERENT: models/x" in capsys.readouterr().out) == ("different" in fault)


def test_other_code_or_a_damaged_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "kills.json"
    Series(file, code="a", settings="b").save()
    with pytest.raises(Refusal, match=r"kills\.json was recorded with other code or settings; name"):
        Series(file, code="other", settings="b")
    file.write_text('{"conditions": 1}')
    with pytest.raises(Refusal, match=r"kills\.json is damaged .*; delete it"):
        Series(file, code="a", settings="b")


def test_without_a_file_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Series(None, code="a").save()
    assert list(tmp_path.iterdir()) == []
