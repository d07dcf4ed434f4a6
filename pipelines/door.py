"""Run `trainyard` as a process: exit codes, errors as one line, interrupts."""

from __future__ import annotations

import atexit
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

from components.errors import Refusal, Stopped, TryLater, explain_os_error
from components.exit_code import BAD_INPUT, INTERRUPTED, TRY_LATER, write_exit_code
from components.home import ensure_home
from components.safe_text import SafeStream, drop_controls, hide_secrets

STANDARD_OUTPUT = 1  # its file descriptor
READER_LEFT = 128 + signal.SIGPIPE  # as shells say it


def run() -> None:
    """Run the command of `sys.argv` and end the process with its exit code.

    A thread that still sends to a slow tracking server may be inside C++ code. Python's orderly exit would abort there
    (SIGABRT), although all results are written, so the process ends without waiting for such threads.
    """
    streams: Any = sys
    streams.stdout, streams.stderr = SafeStream(sys.stdout), SafeStream(sys.stderr)
    try:
        code = main()
    except SystemExit as ending:
        code = ending.code if isinstance(ending.code, int) else 1
    except BaseException as error:
        code = 1
        if isinstance(error, BrokenPipeError) and not _has_reader():
            code = READER_LEFT
            os.dup2(os.open(os.devnull, os.O_WRONLY), STANDARD_OUTPUT)
        else:
            traceback.print_exc()
    write_exit_code(code)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _has_reader() -> bool:
    """Return whether the output is read; `trainyard inspect data | head` does not read to the end."""
    poll = select.poll()
    poll.register(STANDARD_OUTPUT, 0)
    return not any(event & select.POLLERR for _, event in poll.poll(0))


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code; None takes the arguments of this process.

    Exit codes: 0 success, 2 bad input (explained in one line), 4 `retrain` refused the data, 75 try again later,
    130 interrupted, 1 any other failure. `doctor`, `verify` and `chaos` return 1 if they find something wrong.
    """
    signal.signal(signal.SIGTERM, interrupt)
    ensure_home()
    return exit_code(partial(_call_command, arguments))


def _call_command(arguments: list[str] | None) -> int | None:
    from pipelines.commands import cli  # here, so that a library that is missing is explained

    return cli.call_command(arguments)


def exit_code(command: Callable[[], int | None]) -> int:
    """Run `command` and return its exit code; print one line for every error that the user can fix."""
    try:
        return int(command() or 0)
    except Refusal as refusal:
        message = " ".join(str(refusal).split())  # quoted messages of other programs may span several lines
        return _fail(message, BAD_INPUT)
    except TryLater as later:
        return _fail(f"not now: {later}", TRY_LATER)
    except OSError as error:
        explanation = explain_os_error(error)
        if explanation is None:
            raise
        return _fail(str(explanation), BAD_INPUT)
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library in ("components", "pipelines", ""):
            raise
        remedy = "run `make env`, then `source .venv/bin/activate`"
        return _fail(f"{sys.executable}: '{library}' is not installed for this Python; {remedy}", BAD_INPUT)
    except Stopped as stopped:
        return _fail(f"stopped: {stopped}; repeat the command to continue from there", INTERRUPTED)
    except KeyboardInterrupt:
        return _fail("interrupted; saved progress is kept: repeat the command to continue", INTERRUPTED)


def interrupt(number: int, frame: object) -> None:
    """Handle SIGTERM like Ctrl-C, so that a command can save its progress."""
    raise KeyboardInterrupt


def _fail(message: str, code: int) -> int:
    # a path may hold bytes that are not UTF-8
    text = message.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    print(f"trainyard: {drop_controls(hide_secrets(text))}", file=sys.stderr)
    return code
