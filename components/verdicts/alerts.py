"""Alerts: run a command and post to a web address when a retraining ends in a selected outcome."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import urllib.request
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from ..errors import Refusal, first_line, suggest_name
from ..recipes.ranges import Positive

OUTCOMES = ("promoted", "kept", "refused", "failed", "rolled back")


@dataclass(frozen=True)
class Alerts:
    """Which outcomes trigger an alert, and where it goes.

    On an outcome listed in `when`, `command` receives the facts as JSON on its standard input, and `url` receives the
    same JSON by POST. Each has `seconds` to finish. `$NAME` in either is replaced from the environment: keep secrets
    there, not in a recipe.
    """

    when: list[str] = field(default_factory=lambda: ["promoted", "refused", "failed", "rolled back"])
    command: list[str] | None = None
    url: str | None = None
    seconds: Positive = 10

    def __post_init__(self) -> None:
        for outcome in self.when:
            if outcome not in OUTCOMES:
                raise Refusal(
                    f"when: no outcome '{outcome}'{suggest_name(outcome, OUTCOMES)}; any of {', '.join(OUTCOMES)}"
                )
        if self.command == []:
            raise Refusal("command: names no program; give it and its arguments, or drop the line")
        try:
            password = self.url is not None and urlsplit(self.url).password
        except ValueError as error:
            raise Refusal(
                f"url: is not a valid web address ({error}); give one such as https://HOST/PATH, or $NAME"
            ) from None
        if password:
            raise Refusal("url: holds a password; keep it in the environment, and write $NAME here")

    def send(self, outcome: str, facts: dict[str, Any]) -> list[str]:
        """Send the alerts of an outcome and return one line per failure; a failed alert raises no error."""
        if outcome not in self.when:
            return []
        content = json.dumps({"outcome": outcome, **facts}, default=str).encode()
        failures = []
        for send, channel in ((self._run_command, "command"), (self._post, "url")):
            try:
                send(content, outcome)
            except Exception as error:
                failures.append(f"alert by {channel} failed: {type(error).__name__}: {first_line(error)}")
        return failures

    def _run_command(self, content: bytes, outcome: str) -> None:
        if self.command is None:
            return
        command = [os.path.expandvars(part) for part in self.command]
        environment = os.environ | {"TRAINYARD_OUTCOME": outcome}
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )
        try:
            process.communicate(content, timeout=self.seconds)
        except BaseException:
            # End the process group, so that programs which the command started end too.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        if process.returncode:
            raise OSError(f"'{self.command[0]}' ended with exit code {process.returncode}")

    def _post(self, content: bytes, outcome: str) -> None:
        if self.url is None:
            return
        url = os.path.expandvars(self.url)
        if urlsplit(url).scheme not in ("http", "https"):
            raise OSError("not an http(s) address; is the variable set?")
        request = urllib.request.Request(url, content, {"Content-Type": "application/json"}, method="POST")
        with urllib.request.urlopen(request, timeout=self.seconds):
            pass
