"""The first line of an error, whatever its message, and counts with their nouns."""

from __future__ import annotations

import pytest

from components.errors import first_line, pluralize
from components.tracking import server
from components.verdicts.alerts import Alerts
from pipelines.reports import links


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError("no route\nat all"), "no route"),
        (OSError("\n no route"), "no route"),
        (ConnectionResetError(), "ConnectionResetError"),
        (OSError(" \n"), "OSError"),
        (OSError("a" * 150 + " " + "b" * 100), "a" * 150 + " ..."),
    ],
)
def test_the_first_line_of_an_error(error: Exception, line: str) -> None:
    assert first_line(error) == line


def test_one_thing_is_singular() -> None:
    assert [pluralize(count, "row") for count in (0, 1, 2000)] == ["0 rows", "1 row", "2,000 rows"]
    assert [pluralize(count, "row has", "rows have") for count in (1, 2)] == ["1 row has", "2 rows have"]


def test_no_part_of_a_password_is_left() -> None:
    error = OSError("x" * 170 + " http://me:" + "secret" * 9 + "@host went away")
    assert "secret" not in server.hide_credentials(first_line(error))


def fail_without_message(*arguments: object) -> None:
    raise ConnectionResetError


def test_an_error_without_message_hurts_neither_alert_nor_report(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Alerts, "_run_command", fail_without_message)
    assert Alerts(command=["x"]).send("failed", {}) == [
        "alert by command failed: ConnectionResetError: ConnectionResetError"
    ]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(links.pages, "find_pages", fail_without_message)
    monkeypatch.setattr(links, "_is_reachable", lambda: True)
    assert set(links.find_links("an-experiment")) == {"front page"}
