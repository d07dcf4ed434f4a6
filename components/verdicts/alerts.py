"""Alerts: run a command and post to a web address when a retraining ends in a selected outcome."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import urllib.request
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from ..errors import Refusal, first_line, suggest_name
from ..recipes.ranges import Positive

OUTCOMES = ("promoted", "kept", "refused", "failed", "rolled back")


VARIABLE = re.compile(r"\$\w+|\$\{\w+\}")


@dataclass(frozen=True)
class Alerts:
    """Which outcomes trigger an alert, and where it goes.

    On an outcome listed in `when`, `command` receives the facts as JSON on its standard input, and `url` receives the
    same JSON by POST. Each has `seconds` to finish. Keep secrets in the environment, not in a recipe: `$NAME` in `url`
    is replaced from there, and `command` inherits it. Arguments hold no secret, because everybody can list them.
    """

    when: list[str] = field(default_factory=lambda: ["promoted", "refused", "failed", "rolled back"])
    command: list[str] | None = None
    url: str | None = None
    seconds: Positive = 10

    def __post_init__(self) -> None:
        for outcome in self.when:
            if outcome not in OUTCOMES:
                raise Refusal(
                    f"when: no outcome '{outcome}'{suggest_name(outcome, OUTCOMES)}; choose from {', '.join(OUTCOMES)}"
                )
        if self.command == []:
            raise Refusal("command: names no program; give it and its arguments, or drop the line")
        for before, part in zip(["", *(self.command or [])], self.command or [], strict=False):
            if (name := VARIABLE.search(part)) and not re.fullmatch(r"-\w*c", before):
                raise Refusal(
                    f"command: {name[0]} would be an argument, which everybody on the machine can read; "
                    "the command inherits the environment: let it read the variable there"
                )
        if self.url is not None:
            _check_address(self.url)

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
                failures.append(f"alert by {channel} failed: {self._reason(error)}")
        return failures

    def _reason(self, error: Exception) -> str:
        """Return the error's type and, unless it quotes the address, its first line."""
        line = first_line(error)
        address = os.path.expandvars(self.url or "")
        parts = [part for part in re.split(r"[/?&=@:]", address.partition("://")[2]) if len(part) > 3]
        if not isinstance(error, OSError) or any(part in line for part in parts):
            return type(error).__name__
        return f"{type(error).__name__}: {line}"

    def _run_command(self, content: bytes, outcome: str) -> None:
        if self.command is None:
            return
        environment = os.environ | {"TRAINYARD_OUTCOME": outcome}
        process = subprocess.Popen(
            self.command,
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


def _check_address(url: str) -> None:
    """Refuse an invalid address, and one that holds a password or, as those of many services do, a secret path."""
    try:
        parts = urlsplit(url)
        has_password = bool(parts.password)
    except ValueError:
        raise Refusal("url: is not a valid web address; give one such as https://HOST, or $NAME") from None
    if has_password:
        raise Refusal("url: holds a password; keep it in the environment, and write $NAME here")
    if not VARIABLE.search(url) and (parts.path.strip("/") or parts.query or parts.fragment):
        raise Refusal("url: its path may be a secret; keep the address in the environment, and write $NAME here")
