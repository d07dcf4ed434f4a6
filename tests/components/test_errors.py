"""What an error says in one line, whatever it says."""

from __future__ import annotations

import pytest

from components.errors import first_line
from components.tracking import server
from components.verdicts.alerts import Alerts
from pipelines.reports import links


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError("no route\nat all"), "no route"),
        (OSError("\n no route"), "no route"),
        (ConnectionResetError(), "ConnectionResetError"),
        (OSError(" \n"), "OSError"),
        (OSError("a" * 150 + " " + "b" * 100), "a" * 150 + " ..."),
    ],
)
def test_the_first_line_of_an_error(error: Exception, says: str) -> None:
    assert first_line(error) == says


def test_no_password_is_shown_by_half() -> None:
    error = OSError("x" * 170 + " http://me:" + "secret" * 9 + "@host went away")
    assert "secret" not in server.hide_credentials(first_line(error))


def silent(*given: object) -> None:
    raise ConnectionResetError


def test_an_error_without_a_word_hurts_neither_alert_nor_report(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Alerts, "_run_command", silent)
    assert Alerts(command=["x"]).send("failed", {}) == [
        "alert by command failed: ConnectionResetError: ConnectionResetError"
    ]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(links.tracker_pages, "links", silent)
    monkeypatch.setattr(links, "_there", lambda: True)
    assert set(links.find_links("an-experiment")) == {"front page"}
