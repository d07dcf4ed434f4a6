"""Ray's authentication token: a new one for each cluster that we start, otherwise this user's."""

from __future__ import annotations

import os
import secrets
import sys
from contextlib import suppress
from pathlib import Path

from ..errors import Refusal, first_line


def create_token(folder: Path) -> dict[str, str | None]:
    """Write a new token (mode 0600) into `folder`; return the environment in which Ray uses this one and no other."""
    file = folder / "token"
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(secrets.token_hex(32))
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(file), "RAY_AUTH_TOKEN": None}


def authenticate() -> None:
    """Turn on Ray's token authentication, and write a token (mode 0600) if this user has none yet.

    Only who can read the token may use a cluster. Left to itself, Ray turns tokens on in some of its processes only, if
    the file exists. RAY_AUTH_MODE, RAY_AUTH_TOKEN and RAY_AUTH_TOKEN_PATH are respected.
    """
    if "RAY_AUTH_MODE" in os.environ:
        return
    if not os.environ.get("RAY_AUTH_TOKEN"):
        try:
            file = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
            _ensure_token(file)
        except (OSError, RuntimeError) as error:  # RuntimeError: there is no home
            raise Refusal(
                f"Ray's token can be neither read nor written in the home of user {os.getuid()} ({first_line(error)}); "
                "set RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or HOME"
            ) from None
    os.environ["RAY_AUTH_MODE"] = "token"


def _ensure_token(file: Path) -> None:
    """Write a new token (mode 0600) unless there is one."""
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_name(f".{file.name}.{os.getpid()}")
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_hex(32))
        with suppress(FileExistsError):  # another process was quicker
            os.link(draft, file)
        draft.unlink()
    if file.stat().st_mode & 0o077 and file.stat().st_uid == os.getuid():
        file.chmod(0o600)


def reload_token() -> None:
    """Let a Ray that is already imported read the token's settings again; it keeps the first ones it has read."""
    if "ray" not in sys.modules:
        return
    from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

    Config.initialize("")  # RAY_AUTH_MODE
    AuthenticationTokenLoader.instance().reset_cache()
