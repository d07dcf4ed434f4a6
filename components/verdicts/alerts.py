"""Telling somebody: a command and a web address, on chosen outcomes. Whatever they do can't hurt what they tell of."""

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
    """On an outcome among `when`: `command` gets the facts as JSON on its input, and `url` the same by POST.

    `$NAME` in either is taken from the environment: secrets belong there, not into a recipe. Each may take `seconds`.
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
            raise Refusal(f"url: is no web address ({error}); give one such as https://HOST/PATH, or $NAME") from None
        if password:
            raise Refusal("url: holds a password; keep it in the environment, and write $NAME here")

    def send(self, outcome: str, facts: dict[str, Any]) -> list[str]:
        """What went wrong, one line each; nothing is raised."""
        if outcome not in self.when:
            return []
        content = json.dumps({"outcome": outcome, **facts}, default=str).encode()
        wrong = []
        for tell, what in ((self._call, "command"), (self._post, "url")):
            try:
                tell(content, outcome)
            except Exception as error:
                wrong.append(f"alert by {what} failed: {type(error).__name__}: {first_line(error)}")
        return wrong

    def _call(self, content: bytes, outcome: str) -> None:
        if self.command is None:
            return
        command = [os.path.expandvars(part) for part in self.command]
        environment = os.environ | {"TRAINYARD_OUTCOME": outcome}
        called = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )
        try:
            called.communicate(content, timeout=self.seconds)
        except BaseException:
            os.killpg(called.pid, signal.SIGKILL)  # and whatever it started
            called.wait()
            raise
        if called.returncode:
            raise OSError(f"'{self.command[0]}' ended with exit code {called.returncode}")

    def _post(self, content: bytes, outcome: str) -> None:
        if self.url is None:
            return
        url = os.path.expandvars(self.url)
        if urlsplit(url).scheme not in ("http", "https"):
            raise OSError("no http(s) address; is the variable set?")
        request = urllib.request.Request(url, content, {"Content-Type": "application/json"}, method="POST")
        with urllib.request.urlopen(request, timeout=self.seconds):
            pass
