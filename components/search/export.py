"""Write the trials of a search as studies of Optuna, which its dashboard and its functions read."""

from __future__ import annotations

import warnings
from datetime import datetime
from pathlib import Path
from typing import Any

from ..errors import Refusal
from ..files import read_object
from .earlier import SEARCH
from .parameters import list_parameters
from .proposals import make_distribution, trial_parameters
from .trials import RECORD, Trial, read_trial

DATABASES = (".db", ".sqlite", ".sqlite3")
JOURNALS = (".log", ".journal")


def export_studies(folder: Path, file: Path, title: str) -> dict[str, int]:
    """Write the search in `folder` to a new file, one study per arm; return {study's name: number of its trials}.

    The ending decides the kind: SQLite or Optuna's journal. A trial that was stopped early is pruned, one that was lost
    or diverged has failed; the scores after each rung are its intermediate values.
    """
    import optuna
    from optuna.study import StudyDirection

    search = read_object(folder / SEARCH)
    storage = _open_storage(file)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)  # about names of metrics
    score, mode = search["monitor"]
    counts = {}
    for arm in search["arms"]:
        name = f"{title} {arm}" if len(search["arms"]) > 1 else title
        direction = StudyDirection.MAXIMIZE if mode == "max" else StudyDirection.MINIMIZE
        study = optuna.create_study(storage=storage, study_name=name, direction=direction)
        study.set_metric_names([score])
        records = [read_trial(record.parent) for record in folder.glob(f"{arm}/*/{RECORD}")]
        trials = sorted((trial for trial in records if trial is not None), key=lambda trial: trial.number)
        study.add_trials([_frozen_trial(trial, search["space"], score) for trial in trials])
        counts[name] = len(trials)
    return counts


def _open_storage(file: Path) -> Any:
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend
    from sqlalchemy.engine import URL

    if file.exists():
        raise Refusal(f"{file}: exists already; name a new file")
    if file.suffix not in (*DATABASES, *JOURNALS):
        raise Refusal(f"{file}: must end in .db (SQLite) or .log (Optuna's journal)")
    if not file.absolute().parent.is_dir():
        raise Refusal(f"{file}: its folder does not exist; create it first")
    if "?" in str(file.absolute()):
        raise Refusal(f"{file.absolute()}: Optuna takes no ? in a path; name another file")
    if file.suffix in DATABASES:
        return RDBStorage(URL.create("sqlite", database=str(file.absolute())).render_as_string(False))
    return JournalStorage(JournalFileBackend(str(file)))


def _frozen_trial(trial: Trial, space: dict[str, Any], score: str) -> Any:
    """Return a trial as Optuna's."""
    import optuna
    from optuna.trial import TrialState

    parameters = list_parameters(space)
    params = trial_parameters(space, trial.values)
    state = TrialState.COMPLETE if trial.finished else TrialState.FAIL if trial.reason else TrialState.PRUNED
    facts: dict[str, Any] = {name: value for name, value in trial.scores.items() if name != score}
    facts |= {"rungs": len(trial.parts), "seconds": round(trial.seconds, 3)}
    frozen = optuna.trial.create_trial(
        state=state,
        value=trial.scores[score] if trial.finished else None,
        params=params,
        distributions={name: make_distribution(parameters[name]) for name in params},
        user_attrs=facts | ({"reason": trial.reason} if trial.reason else {}),
        intermediate_values={rung: scores[score] for rung, scores in enumerate(trial.rung_scores, 1)},
    )
    if trial.began and trial.ended:
        frozen.datetime_start = datetime.fromtimestamp(trial.began / 1000)
        frozen.datetime_complete = datetime.fromtimestamp(trial.ended / 1000)
    return frozen
