"""Write what `verify` found as an in-toto statement with SLSA's provenance, and check such a statement.

in-toto: https://github.com/in-toto/attestation (Statement v1); SLSA: https://slsa.dev/spec/v1.0/provenance.
Sign it with `ssh-keygen -Y sign -f KEY -n trainyard FILE`, which writes FILE.sig.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from components.errors import Refusal, pluralize
from components.files import atomic_path
from pipelines.commands.verification.comparison import DIFFERENT, ENVIRONMENT, HARDWARE, Comparison
from pipelines.commands.verification.original import Original, find_original, result_files

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
BUILD = "urn:trainyard:recipe:v1"
NAMESPACE = "trainyard"  # of the signature
Row = tuple[str, bool, str]  # (what was checked, whether it holds, the facts)


def write_statement(
    file: Path, original: Original, commit: str, comparison: Comparison, now_tags: dict[str, str], began: datetime
) -> None:
    """Write the statement about an original and its run in a copy that began at `began`; now_tags: of that run."""
    inputs = [{"name": name, "digest": {"sha256-tree": digest}} for name, digest in original.inputs.items()]
    locks = [
        {"name": name.removeprefix("sha256."), "digest": {"sha256": value}}
        for name, value in original.tags.items()
        if name in ("sha256.dvc.lock", "sha256.requirements.lock")
    ]
    data = [{"name": "prepared data", "digest": {"sha256-tree": original.outcome.data}}]
    code = {"uri": "git+file:.", "digest": {"gitCommit": commit, "sha256-tree": original.tags.get("sha256.code", "")}}
    environment = {tag: now_tags.get(tag, "") for tag in (*HARDWARE, *ENVIRONMENT)}
    content = {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": _sha256(path)}} for name, path in original.files.items()],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD,
                "externalParameters": {
                    "recipe": original.recipe,
                    "params": original.params,
                    "subject": f"{original.model}/{original.version}" if original.model else original.title,
                },
                "internalParameters": {"environment": environment},
                "resolvedDependencies": [code, *data, *inputs, *locks],
            },
            "runDetails": {
                "builder": {
                    "id": "urn:trainyard:verify",
                    "version": {tag.removeprefix("version."): environment[tag] for tag in ENVIRONMENT},
                },
                "metadata": {
                    "startedOn": began.strftime("%Y-%m-%dT%H:%M:%SZ"),
                    "finishedOn": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                },
            },
            "trainyard_verdict": {
                "verdict": comparison.verdict,
                "tolerance": comparison.tolerance,
                "compared": {name: {"then": old, "now": new} for name, (old, new) in comparison.rows.items()},
                "different": comparison.different,
                "environment": {tag: {"then": old, "now": new} for tag, (old, new) in comparison.environment.items()},
            },
        },
    }
    with atomic_path(file) as draft:
        draft.write_text(json.dumps(content, indent=2) + "\n")


def check_statement(file: Path, signers: str | None) -> int:
    """Check a statement's signature, the bytes of its subject, its commit and its verdict; return an exit code.

    signers: a file of allowed signers (ssh-keygen(1)); without one a signature is checked, but not who owns its key.
    """
    statement = read_statement(file)
    rows = [*check_signature(file, signers), *_check_subject(statement), _check_commit(statement)]
    verdict = statement["predicate"]["trainyard_verdict"]
    rows.append(("verdict", verdict["verdict"] != DIFFERENT, str(verdict["verdict"])))
    for name, holds, facts in rows:
        print(f"{name:<10} {'' if holds else 'WRONG '}{facts}")
    return 0 if all(holds for _, holds, _ in rows) else 1


def read_statement(file: Path) -> dict[str, Any]:
    """Return the statement in a file; raise Refusal if it is not one that `verify --report` writes."""
    try:
        content = json.loads(file.read_text())
        definition = content["predicate"]["buildDefinition"]
        fits = (content["_type"], content["predicateType"], definition["buildType"]) == (STATEMENT, PREDICATE, BUILD)
        texts = [text for entry in content["subject"] for text in (entry["name"], entry["digest"]["sha256"])]
        texts += [definition["externalParameters"]["subject"], _commit(content)]
        texts += [content["predicate"]["trainyard_verdict"]["verdict"]]
        fits = fits and bool(content["subject"]) and all(isinstance(text, str) for text in texts)
    except FileNotFoundError:
        raise Refusal(f"{file}: no such file; verify --report FILE writes one") from None
    except (ValueError, KeyError, TypeError, IndexError):
        fits = False
    if not fits:
        raise Refusal(f"{file}: is not a statement that verify --report wrote; name such a file")
    return dict(content)


def check_signature(file: Path, signers: str | None) -> list[Row]:
    """Return the row of the signature in FILE.sig: whose it is, and whether it is one of the file's bytes."""
    signature = Path(f"{file}.sig")
    if not signature.is_file():
        return [("signature", signers is None, "not signed: ssh-keygen -Y sign -f KEY -n trainyard " + str(file))]
    common = ["-n", NAMESPACE, "-s", str(signature)]
    if signers is None:
        good, facts = _ssh_keygen(["check-novalidate", *common], file)
        return [("signature", good, f"{facts} (owner of the key not checked: --signers FILE)" if good else facts)]
    if not Path(signers).is_file():
        raise Refusal(f"verify: --signers {signers}: no such file; it lists allowed signers (man ssh-keygen)")
    good, facts = _ssh_keygen(["find-principals", "-s", str(signature), "-f", signers], file)
    if good:
        identity = facts.split(",")[0].split()[0]
        good, facts = _ssh_keygen(["verify", "-f", signers, "-I", identity, *common], file)
    return [("signature", good, facts)]


def _ssh_keygen(arguments: list[str], file: Path) -> tuple[bool, str]:
    """Return whether `ssh-keygen -Y` accepts the file, and its last line."""
    try:
        with file.open("rb") as content:
            done = subprocess.run(
                ["ssh-keygen", "-Y", *arguments], stdin=content, capture_output=True, text=True, check=False
            )
    except FileNotFoundError:
        raise Refusal("verify: ssh-keygen is not installed; it checks signatures (OpenSSH)") from None
    lines = (done.stdout.strip() or done.stderr.strip()).splitlines()
    return done.returncode == 0, lines[-1] if lines else "ssh-keygen rejects the signature"


def _check_subject(statement: dict[str, Any]) -> list[Row]:
    """Return the row of the subject: whether the files here have the stated bytes."""
    subject = statement["predicate"]["buildDefinition"]["externalParameters"]["subject"]
    stated = {entry["name"]: entry["digest"]["sha256"] for entry in statement["subject"]}
    with tempfile.TemporaryDirectory(prefix="trainyard-check-") as folder:
        try:
            here_is_result = Path(subject).is_dir()
            files = result_files(Path(subject)) if here_is_result else find_original(subject, Path(folder)).files
        except Refusal as refusal:
            return [("subject", False, f"{subject}: {refusal}")]
        here = {name: _sha256(path) for name, path in files.items()}
    for name, digest in stated.items():
        if here.get(name) != digest:
            return [("subject", False, f"{subject}: {name} {'has other bytes' if name in here else 'is not there'}")]
    return [("subject", True, f"{subject}: {pluralize(len(stated), 'file')} with the stated bytes")]


def _check_commit(statement: dict[str, Any]) -> Row:
    commit = _commit(statement)
    lookup = subprocess.run(["git", "cat-file", "-e", f"{commit}^{{commit}}"], capture_output=True, check=False)
    return (
        "commit",
        lookup.returncode == 0,
        f"{commit[:10]} is {'not ' if lookup.returncode else ''}in this repository",
    )


def _commit(statement: dict[str, Any]) -> str:
    return str(statement["predicate"]["buildDefinition"]["resolvedDependencies"][0]["digest"]["gitCommit"])


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
