"""`trainyard verify`: make a registered version or a result again from its run's record, and compare.

A copy of the repository at the run's commit, with the run's params, the inputs whose digests it recorded and the raw
data that are here, runs with its own tracking store. Data must have the same digest. Weights must have the same bytes
where hardware, threads and software are those of the original; elsewhere metrics must be within the tolerance.
"""

from __future__ import annotations

import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from components.errors import Refusal
from pipelines.commands.verification.comparison import DIFFERENT, compare, print_comparison
from pipelines.commands.verification.original import find_commit, find_original
from pipelines.commands.verification.rerun import check_out, read_rerun, run_copy
from pipelines.commands.verification.statement import check_statement, write_statement

TOLERANCE = 0.02


def main(
    what: str | None = None,
    keep: bool = False,
    tolerance: float = TOLERANCE,
    report: str | None = None,
    check: str | None = None,
    signers: str | None = None,
) -> int:
    """Return exit code 0 if the original comes out again, otherwise 1.

    what: a version, a model or a result (`find_original`). keep: leave the copy. tolerance: of metrics, where bytes
    may differ. report: a file for the statement. check: a statement to check instead; signers: who may have signed it.
    """
    if check is not None:
        if what is not None or report is not None:
            raise Refusal("verify: --check takes its subject from FILE; leave out the other arguments")
        return check_statement(Path(check), signers)
    if signers is not None:
        raise Refusal("verify: --signers needs --check FILE")
    if report is not None and not Path(report).absolute().parent.is_dir():
        raise Refusal(f"verify: --report {report}: its folder does not exist; create it first")
    began = datetime.now(UTC)
    folder = Path(tempfile.mkdtemp(prefix="trainyard-verify-"))
    try:
        original = find_original(what, folder)
        commit = find_commit(original)
        copy = check_out(folder / "copy", commit, original)
        print(f"{original.title}, commit {commit[:10]}, again in {copy}", flush=True)
        if code := run_copy(copy, original):
            raise Refusal(
                f"verify: the run in the copy ended with exit code {code}; see above (--keep leaves the copy)"
            )
        rerun = read_rerun(copy, original)
        comparison = compare(original.outcome, rerun.outcome, original.tags, rerun.tags, tolerance)
        print_comparison(comparison)
        if report is not None:
            write_statement(Path(report), original, commit, comparison, rerun.tags, began)
            print(f"{report}: sign it with ssh-keygen -Y sign -f KEY -n trainyard {report}")
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
    return 1 if comparison.verdict == DIFFERENT else 0
