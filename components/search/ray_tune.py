"""Search over a recipe's values: Optuna's TPE proposes, ASHA says who goes on; the only importer of `ray.tune`.

Trials are light: they run on reused actors, each on one CPU (or GPU), no process group. A trial is a few rungs: folds,
seeds, or epochs of one fit, which goes on from its checkpoint. The same rung is the same data for every trial, so like
is compared with like. To Ray Tune, a trial that goes on after others had their turn is another trial, which finds the
first rungs done.

What is tried, and for how long, is a pure function of what became of it before (proposals.py): so the trials' own files
are all there is to save. A search killed and started again proposes the same and reads what is known.
"""

from __future__ import annotations

import json
import math
import os
import pickle
import shutil
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

from ..cluster import connection, prestart, spread
from ..errors import Refusal
from ..files import write_json
from ..recipes.ranges import Count, Natural
from .proposals import GridStudy, Proposal, Study, grid_combinations, milestones
from .trials import FIT, MARKER, MAX_LOST_WORKERS, RECORD, Attempt, Scores, Trial, read_trials, trial_name

QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",  # the trials' files are the state
    "TUNE_MAX_PENDING_TRIALS_PG": "8",  # not one after the other: what a trial tries hangs on no timing
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
}


def search(
    trial: Callable[..., Scores] | str,
    arms: dict[str, dict[str, Any]],
    folder: Path,
    rungs: int,
    monitor: tuple[str, str],
    gpu: bool = False,
    on_trial: Callable[[Trial, Path], None] | None = None,
    cumulative: bool = False,
    *,
    space: dict,
    sampler: Literal["tpe", "grid"] = "tpe",
    samples: Count = 12,
    seed: Natural = 0,
    parallel: Count = 1,
    reduction: Count = 3,
) -> dict[str, list[Trial]]:
    """The same search for each of `arms` (name -> arguments), side by side: {arm: its trials by number}.

    `trial(values, accumulate, rung, **arguments)` runs on a worker and returns the scores of one of `rungs` rungs;
    it may be given as a dotted path, as in `cluster.spread`.
    cumulative: a rung goes on from the one before, with what that one left in the argument `folder`; a trial's scores
    are then those of its last rung, not the mean over its rungs.
    space: {dotted key: {low, high, log} or {choices: [...]}}; low and high as whole numbers (4, not 4.0) try these
    alone. sampler: "grid" tries every combination of the choices,
    all their rungs, however many `samples` says; a choice may then be a whole section. parallel: trials of an arm at a
    time; reduction: of those that came to rung 1, r, r * r ... one in r goes on, and all where it is 1.
    Trial n is the folder `folder`/<arm>/trial-n; `on_trial` hears of each that ends or pauses.
    """
    os.environ.update(QUIET)
    connection.connect()
    from ray import tune
    from ray.tune import CheckpointConfig, FailureConfig, RunConfig, TuneConfig, Tuner

    attempt = uuid.uuid4().hex[:8]
    if sampler == "grid":
        samples = len(grid_combinations(space))
        studies: dict[str, Study | GridStudy] = {arm: GridStudy(space, rungs) for arm in arms}
    else:
        studies = {arm: Study(space, samples, parallel, monitor, seed, rungs, reduction) for arm in arms}
    begin = partial(Attempt, trial, arms, folder.resolve(), rungs, monitor[0], attempt, cumulative)
    searcher, follower = _ray_tune(studies, folder, monitor, on_trial)
    if prestart.is_kept_cluster():
        _bring_no_environment()
    results = Tuner(
        tune.with_resources(_worker(begin, *spread.driver_settings()), {"CPU": 1, "GPU": 1} if gpu else {"CPU": 1}),
        tune_config=TuneConfig(
            search_alg=searcher,
            num_samples=samples * len(arms) * len(milestones(rungs, reduction)),  # at most
            reuse_actors=True,
            trial_dirname_creator=lambda trial: str(trial.trial_id),
        ),
        run_config=RunConfig(
            name=attempt,
            storage_path=str(folder.resolve() / "ray"),
            failure_config=FailureConfig(max_failures=MAX_LOST_WORKERS),
            checkpoint_config=CheckpointConfig(checkpoint_at_end=False),
            callbacks=[follower],
            verbose=0,
        ),
    )
    try:
        errors = [error for error in results.fit().errors if error is not None]
    except Exception as error:
        raise spread.root_cause(follower.mistake or error) from None
    finally:
        shutil.rmtree(folder / "ray", ignore_errors=True)
    for left in folder.glob(f"*/*/{FIT}"):
        shutil.rmtree(left)
    found = {arm: read_trials(folder / arm, samples) for arm in arms}
    for arm, trials in found.items():
        if not any(t.finished for t in trials):
            reason = next((t.diverged for t in trials if t.diverged), "give it more samples")
            raise errors[0] if errors else Refusal(f"tune: no trial of '{arm}' finished: {reason}")
    return found


def _ray_tune(
    studies: dict[str, Study | GridStudy],
    folder: Path,
    monitor: tuple[str, str],
    on_trial: Callable[[Trial, Path], None] | None,
) -> tuple[Any, Any]:
    """Ray Tune's two parts on the driver's side: who proposes, who hears of it."""
    from ray.exceptions import RayTaskError
    from ray.tune import Callback
    from ray.tune.search import Searcher

    proposals: dict[str, tuple[str, Proposal]] = {}  # Tune's name of a trial -> arm, what it is

    class Proposals(Searcher):
        def suggest(self, trial_id: str) -> Any:
            for arm in sorted(studies, key=lambda arm: len(studies[arm].asked)):
                if found := studies[arm].propose():
                    proposals[trial_id] = arm, found
                    values = json.dumps(found.values)
                    return {"arm": arm, "number": found.number, "values": values, "until": found.until}
            return Searcher.FINISHED if all(study.over for study in studies.values()) else None

        def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
            arm, proposed = proposals[trial_id]
            score = result[monitor[0]] if result and not error else math.nan
            studies[arm].end(proposed, None if math.isnan(score) else score)

        def save(self, checkpoint_path: str) -> None:
            """Nothing: the trials' files are the state."""

    class Follower(Callback):
        mistake: Exception | None = None  # of our own, rather than a worker lost

        def __reduce__(self) -> tuple[Any, tuple]:
            """Tuner saves a copy of everything, for a way to go on that we don't use; `on_trial` holds open files."""
            return Callback, ()

        def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
            arm, proposed = proposals[trial.trial_id]
            file = folder / arm / trial_name(proposed.number) / RECORD
            if on_trial is not None and file.is_file():
                on_trial(Trial(**json.loads(file.read_text())), file.parent)

        def on_trial_recover(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
            arm, proposed = proposals[trial.trial_id]
            error = pickle.loads(Path(trial.pickled_error_file).read_bytes())  # which Ray wrote just now
            if isinstance(error, RayTaskError):
                self.mistake = error
                raise error  # trying again would not help
            if "low on memory" in str(error):  # Ray itself ended the worker
                marker = folder / arm / trial_name(proposed.number) / MARKER
                write_json(marker, json.loads(marker.read_text()) | {"kills": -1})

    return Proposals(metric=monitor[0], mode=monitor[1]), Follower()


def _bring_no_environment() -> None:
    """A kept cluster's raylet has the settings that Tune would give each actor; a worker that waits has no others."""
    import ray
    from ray.tune.execution import tune_controller
    from ray.tune.execution.class_cache import _ActorClassCache

    class Plain(_ActorClassCache):
        def get(self, trainable_cls: type) -> Any:
            if trainable_cls not in self._cache:
                self._cache[trainable_cls] = ray.remote(trainable_cls)
            return self._cache[trainable_cls]

    parts: Any = tune_controller
    parts._ActorClassCache = Plain


# ------------------------------------------------------------------------------------------------ on the worker


def _worker(begin: Callable[[dict[str, Any]], Attempt], folder: str, allowed: str) -> type:
    from ray.tune import Trainable

    class Worker(Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            import torch

            from ..cluster import allocator

            spread.apply_driver_settings(folder, allowed)
            allocator.keep_freed_memory()
            torch.set_num_threads(1)
            self.attempt = begin(config)

        def reset_config(self, config: dict[str, Any]) -> bool:
            spread.apply_driver_settings(folder, allowed)
            self.attempt = begin(config)
            return True

        def step(self) -> dict[str, Any]:
            return self.attempt.step()

    return Worker
