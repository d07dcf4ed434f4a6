"""Ask the tracker once, before any work, and tell faults that last from those that time mends.

A tracker that is down costs nothing but delay, because runs are kept and sent later. An old database, a wrong password
or a page that is not MLflow would fail for ever. MLflow is not imported, which takes seconds.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import re
import shlex
import sqlite3
import ssl
import textwrap
import urllib.error
import urllib.parse
import urllib.request
from contextlib import closing, suppress
from functools import cache
from pathlib import Path
from typing import Any

from .. import network
from ..errors import Refusal, TryLater, first_line
from ..safe_text import hide_credentials
from . import local_store

SECONDS = 10.0  # in which a server must answer
SEARCH = "/api/2.0/mlflow/experiments/search?max_results=1"
FILES = "/api/2.0/mlflow-artifacts/artifacts?path="
PASSING = (408, 425, 429)  # client errors that time mends
PROXY_FAULTS = (407, 502, 503, 504)  # which a proxy may answer for a server that it doesn't reach
MAX_ANSWER = 1 << 20  # bytes


def check_tracker(address: str) -> None:
    """Raise Refusal if the tracker can't work until somebody changes something, or TryLater if it may work later."""
    if address.startswith("http"):
        _check_server(address)
    elif (file := local_store.sqlite_file(address)) is not None:
        _check_file(file, address)
    elif "://" in address and not address.startswith("file:"):
        _check_database(address)
    elif address != "databricks":
        raise Refusal(
            f"MLFLOW_TRACKING_URI={hide_credentials(address)}: MLflow 3 keeps no runs in a folder; "
            f"set it to {local_store.SCHEME}{local_store.DATABASE}, or unset it"
        )


def refuse_lasting_faults(address: str) -> None:
    """Raise Refusal if the tracker can't work until somebody changes something; a tracker that is down is fine."""
    with suppress(TryLater):
        check_tracker(address)


# ------------------------------------------------------------------------------------------------ servers


def _check_server(address: str) -> None:
    answer = request(address, SEARCH)
    if not isinstance(answer, dict) or not answer.keys() <= {"experiments", "next_page_token"}:
        raise Refusal(f"{_place(address)}: what answers there is not MLflow; check MLFLOW_TRACKING_URI")


def check_files(address: str) -> None:
    """Raise Refusal or TryLater if a tracking server can't list the files in its store; some servers keep no files."""
    try:
        request(address, FILES)
    except Refusal as refusal:
        if not re.search(r": (404|501)\b", str(refusal)):  # the address may hold such digits, too
            raise


def request(address: str, path: str) -> Any:
    """Return the JSON that a tracking server answers, or None for another content."""
    bare = hide_credentials(address).rstrip("/")
    network.host_and_port(bare)
    question = urllib.request.Request(f"{bare}{path}", headers=_credentials() | {"Accept": "application/json"})
    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=_tls_context()), _RedirectHandler)
    try:
        with opener.open(question, timeout=SECONDS) as response:
            content = response.read(MAX_ANSWER)
    except urllib.error.HTTPError as error:
        raise _explain_status(error, bare) from None
    except (OSError, ValueError, EOFError) as error:
        raise _explain_connection(error, bare) from None
    except Exception as error:  # http.client: it hung up, or does not speak HTTP
        raise TryLater(f"{_place(bare)}: {type(error).__name__} {first_line(error)}".rstrip()) from None
    try:
        return json.loads(content)
    except ValueError:
        return None


class _RedirectHandler(urllib.request.HTTPRedirectHandler):
    """Follows redirects, without the account of the tracker where they lead to another host."""

    def redirect_request(self, request: urllib.request.Request, *arguments: Any) -> urllib.request.Request | None:
        """Return the request that follows a redirect; `arguments` are those of urllib."""
        redirected = super().redirect_request(request, *arguments)
        if redirected is not None and redirected.host != request.host:
            redirected.remove_header("Authorization")
        return redirected


def _explain_status(error: urllib.error.HTTPError, address: str) -> Refusal | TryLater:
    """Return the exception for an answer that is an error: place, status, the server's reason, remedy."""
    body = error.read(MAX_ANSWER).decode(errors="replace").strip()
    reason = _server_reason(body)
    text = f"{_place(address)}: {error.code} {error.reason}".rstrip() + (f" ({reason})" if reason else "")
    proxy = _proxy(address) if error.code in PROXY_FAULTS or body.startswith("<") else None
    if proxy and (error.code == 407 or _answers(address)):
        return Refusal(f"{text}: the proxy {proxy} is in the way; add the tracker's host to no_proxy")
    if "database schema" in reason:
        return Refusal(f"{text}; run `mlflow db upgrade` on the server")
    if error.code in PASSING or (error.code >= 500 and error.code != 501):
        return TryLater(text)
    if error.code == 401:
        return Refusal(
            f"{text}; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to an account of this tracker"
        )
    if error.code == 403 and "host" in reason.lower():
        return Refusal(f"{text}; start the tracker with this name in MLFLOW_SERVER_ALLOWED_HOSTS")
    if error.code == 403:
        return Refusal(f"{text}; the account may not do that: ask the tracker's administrator")
    return Refusal(f"{text}; what answers there is not MLflow: check MLFLOW_TRACKING_URI")


def _explain_connection(error: Exception, address: str) -> Refusal | TryLater:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    text = getattr(cause, "strerror", None) or first_line(cause if isinstance(cause, Exception) else error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        fault = f"its certificate is not trusted ({cause.verify_message})"
        return Refusal(f"{_place(address)}: {fault}; name that of its authority in MLFLOW_TRACKING_SERVER_CERT_PATH")
    if isinstance(cause, ssl.SSLError):
        return Refusal(f"{_place(address)}: does not speak TLS ({cause.reason}); is it http:// instead of https://?")
    proxy = _proxy(address)
    if proxy and _answers(address):
        return Refusal(
            f"{_place(address)}: the proxy {proxy} is in the way ({text}); add the tracker's host to no_proxy"
        )
    return TryLater(f"{_place(address)}: does not answer ({text})")


def _server_reason(body: str) -> str:
    """Return the message in MLflow's JSON, or the first line of another text; an empty text for a page of HTML."""
    with suppress(ValueError, KeyError, TypeError):
        body = str(json.loads(body)["message"])
    line = hide_credentials(body.strip().partition("\n")[0])
    return "" if line.startswith("<") else textwrap.shorten(line, 200, placeholder=" ...")


def _place(address: str) -> str:
    return f"the tracker {hide_credentials(address)}"


def _proxy(address: str) -> str | None:
    """Return the proxy of the environment through which requests to the address go, without credentials."""
    parts = urllib.parse.urlsplit(address)
    proxy = urllib.request.getproxies().get(parts.scheme)
    if proxy is None or urllib.request.proxy_bypass(parts.hostname or ""):
        return None
    return hide_credentials(proxy)


def _answers(address: str) -> bool:
    return network.accepts_connections(network.host_and_port(address))


def _credentials() -> dict[str, str]:
    """Return the header with the account of MLflow's environment variables."""
    if user := os.environ.get("MLFLOW_TRACKING_USERNAME"):
        pair = f"{user}:{os.environ.get('MLFLOW_TRACKING_PASSWORD', '')}"
        return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
    if token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
        return {"Authorization": f"Bearer {token}"}
    return {}


def _tls_context() -> ssl.SSLContext:
    if os.environ.get("MLFLOW_TRACKING_INSECURE_TLS") == "true":
        return ssl._create_unverified_context()
    bundle = os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH") or os.environ.get("REQUESTS_CA_BUNDLE")
    try:
        return ssl.create_default_context(cafile=bundle)
    except OSError as error:
        raise Refusal(
            f"MLFLOW_TRACKING_SERVER_CERT_PATH={bundle}: {error.strerror}; name a file of certificates"
        ) from None


# ------------------------------------------------------------------------------------------------ databases


def _check_file(file: Path, address: str) -> None:
    """Check an SQLite file that may not exist yet."""
    if not file.exists():
        folder = file.parent if str(file.parent) else Path()
        if not folder.is_dir() or not os.access(folder, os.W_OK):
            raise Refusal(f"{_place(address)}: {folder} is not a folder that can be written; make it, or name another")
        return
    try:
        with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True, timeout=SECONDS)) as database:
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            versions = database.execute("SELECT version_num FROM alembic_version").fetchall() if tables else []
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            raise Refusal(f"{_place(address)}: is a database of another program; name another file") from None
        if "locked" in str(error):
            raise TryLater(f"{_place(address)}: {error}") from None
        raise Refusal(f"{_place(address)}: {error}; check the file's owner and mode") from None
    except sqlite3.DatabaseError as error:
        raise Refusal(f"{_place(address)}: {error}; move it away, or restore a backup") from None
    if not os.access(file, os.W_OK):
        raise Refusal(f"{_place(address)}: cannot be written; change its owner or mode")
    _check_schema({version for (version,) in versions}, address)


def _check_database(address: str) -> None:
    """Check a database that SQLAlchemy reaches through a server."""
    import sqlalchemy

    if address.partition("://")[0].partition("+")[0] not in ("postgresql", "mysql", "mssql"):
        return  # a plugin's
    try:
        engine = sqlalchemy.create_engine(address)
        with engine.connect() as connection:
            if not sqlalchemy.inspect(connection).has_table("alembic_version"):
                return  # MLflow makes its tables
            rows = connection.execute(sqlalchemy.text("SELECT version_num FROM alembic_version")).fetchall()
    except ImportError as error:
        raise Refusal(f"{_place(address)}: {error}; install its driver (make env)") from None
    except sqlalchemy.exc.OperationalError as error:
        line = first_line(error.orig or error)
        if re.search("authentication|password|denied|does not exist|no pg_hba", str(error.orig)):
            raise Refusal(f"{_place(address)}: {line}; check user, password (PGPASSWORD) and name") from None
        raise TryLater(f"{_place(address)}: {line}") from None
    except sqlalchemy.exc.SQLAlchemyError as error:
        raise Refusal(f"{_place(address)}: {first_line(error)}; check the address") from None
    except ValueError:  # its text quotes what stands behind the last colon, which may be half of a password
        raise Refusal(f"{_place(address)}: its port is not a number; check the address") from None
    _check_schema({version for (version,) in rows}, address)


def _check_schema(versions: set[str], address: str) -> None:
    """Compare the schema's version with those that the installed MLflow knows."""
    revisions, newest = schema_versions()
    if not versions or not revisions or versions == newest:
        return
    if versions <= revisions:
        command = upgrade_command(address)
        raise Refusal(f"{_place(address)}: its tables are of an older MLflow; back it up, then run: {command}")
    raise Refusal(
        f"{_place(address)}: its tables are of a newer MLflow than the one installed here; install that one, or name "
        "another database"
    )


def upgrade_command(address: str) -> str:
    """Return the shell command that upgrades a database; a variable stands for an address with a user or password."""
    if hide_credentials(address) == address:
        return f"mlflow db upgrade {shlex.quote(address)}"
    is_store = os.environ.get("MLFLOW_BACKEND_STORE_URI") == address  # that of `trainyard tracker`
    return f'mlflow db upgrade "${"MLFLOW_BACKEND_STORE_URI" if is_store else "MLFLOW_TRACKING_URI"}"'


@cache
def schema_versions() -> tuple[set[str], set[str]]:
    """Return the versions of the tables that the installed MLflow knows, and the newest ones, from its migrations."""
    spec = importlib.util.find_spec("mlflow")
    folders = (spec and spec.submodule_search_locations) or []
    files = [file for folder in folders for file in Path(folder).glob("store/db_migrations/versions/*.py")]
    revisions, replaced = set(), set()
    for file in files:
        text = file.read_text(encoding="utf-8")
        revisions |= set(re.findall(r"^revision\s*=\s*[\"'](\w+)", text, re.MULTILINE))
        replaced |= set(re.findall(r"^down_revision\s*=\s*[\"'](\w+)", text, re.MULTILINE))
    return revisions, revisions - replaced
