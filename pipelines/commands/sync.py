"""`trainyard sync`: send the records that a tracking server missed while it was unavailable."""

from __future__ import annotations

from components.errors import Refusal, TryLater, pluralize
from components.tracking import mirror, probe, server
from components.workspace import runs_folder


def main() -> int:
    """Send all unsent records; raise TryLater if the tracker does not take them now, or Refusal if it never will.

    Return exit code 1 if files that the runs refer to are gone.
    """
    runs = runs_folder()
    if not runs.is_dir():
        print("no runs yet: nothing to send")
        return 0
    address = server.tracking_uri()
    try:
        probe.check_tracker(address)
        count = mirror.Mirror(runs).send()
    except Refusal:
        raise
    except TryLater as later:
        raise TryLater(f"{later}; nothing is lost") from None
    except Exception as error:
        reason = server.explain_failure(error)
        raise TryLater(f"the tracker {server.hide_credentials(address)}: {reason}; nothing is lost") from None
    missing = mirror.find_missing_files(runs)
    has_all = "the tracker has everything" + (" that is left" if missing else "")
    print(f"sent {pluralize(count, 'record')}" if count else has_all)
    if not missing:
        return 0
    print(f"{pluralize(len(missing), 'file')} of the runs disappeared before being sent, such as {missing[0]}:")
    print("  restore them, delete mirror.json in the folder of their run, and repeat the command")
    return 1
