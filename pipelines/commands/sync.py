"""`trainyard sync`: send the records that a tracking server missed while it was unavailable."""

from __future__ import annotations

from components.errors import Refusal, first_line
from components.tracking import mirror, server
from components.workspace import runs_folder


def main() -> int:
    """Send all unsent records; raise Refusal if the tracking server does not take them."""
    runs = runs_folder()
    if not runs.is_dir():
        print("no runs yet: nothing to send")
        return 0
    try:
        count = mirror.Mirror(runs).send()
    except Exception as error:
        reason = server.hide_credentials(first_line(error))
        raise Refusal(f"tracking: {reason}; nothing is lost, try again later") from None
    print(f"sent {count} records" if count else "the tracker has everything")
    return 0
