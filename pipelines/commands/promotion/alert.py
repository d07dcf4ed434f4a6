"""Report outcomes of `retrain`, `rollback` and `promote` to people, as `retrain.alerts` in params.yaml asks."""

from __future__ import annotations

import sys
from typing import Any

from components.recipes import recipe
from components.safe_text import hide_secrets
from components.verdicts.alerts import Alerts


def send_alert(outcome: str, facts: dict[str, Any]) -> None:
    """Send the outcome with its facts; print failures instead of raising, because the outcome stands anyway.

    Reasons may quote messages of other programs, with addresses that hold passwords.
    """
    facts = facts | {"reasons": [hide_secrets(reason) for reason in facts["reasons"]]}
    try:
        alerts = Alerts(**recipe.load("params.yaml").get("retrain", {}).get("alerts", {}))
        for line in alerts.send(outcome, facts):
            print(f"trainyard: {line}", file=sys.stderr)
    except Exception as error:
        print(f"trainyard: no alert sent: {error}", file=sys.stderr)
