"""Small changes of the code that decides are noticed by its tests; benchmarks/mutations.py draws them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import mutations

ROOMS = mutations.read_rooms([])
SOURCE = '''
def passes(value: int | None, limit: float = 2.5) -> bool:
    """Return whether value + 1 is enough."""
    return value is not None and value + 1 >= limit
'''


def test_the_page_is_that_of_the_record_and_explains_every_survivor() -> None:
    record = json.loads(mutations.RECORD.read_text())
    assert record.keys() <= ROOMS.keys()
    page = mutations.PAGE.read_text()
    assert page == mutations.render_page(record, ROOMS)
    assert "not explained" not in page


def test_enough_mutants_are_killed() -> None:
    record = json.loads(mutations.RECORD.read_text()).values()
    assert mutations.LEAST == 0.75
    assert sum(row["killed"] for row in record) >= 0.75 * sum(row["drawn"] for row in record)
    for row in record:
        assert row["killed"] == row["drawn"] - len(row["survivors"])


def test_mutants_change_what_the_code_does() -> None:
    changes = {mutant.after for seed in range(60) for mutant in mutations.draw_mutants(SOURCE, 99, seed)}
    assert "return value is not None and value + 1 > limit" in changes
    assert "return value is not None or value + 1 >= limit" in changes
    assert "return value is not None and value - 1 >= limit" in changes
    assert not any("int |" not in change for change in changes if "def" in change), "an annotation decides nothing"
    assert not any('"""' in change for change in changes)


def test_draws_follow_from_the_seed() -> None:
    draws = [mutations.draw_mutants(SOURCE, 3, seed) for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
    assert len({mutant.text for mutant in draws[0]}) == 3


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_tests_kill_mutants_that_were_not_drawn_before(tmp_path: Path) -> None:
    """Draw two other mutants of each file; chance spares some, so that fewer than in the record may be killed."""
    rows = dict(mutations.measure(ROOMS, draws=2, seed=1, folder=tmp_path)).values()
    survivors = [mutant for row in rows for mutant in row["survivors"]]
    assert sum(row["killed"] for row in rows) >= 0.6 * sum(row["drawn"] for row in rows), survivors
