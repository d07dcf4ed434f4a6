"""Search over a recipe's values on Ray Tune: TPE proposes trials, ASHA promotes them. Only this module uses `ray.tune`.

Trials are light: they run on reused actors with one CPU (or GPU) each, without a process group. A trial consists of a
few rungs: folds, seeds, or epochs of one fit that resumes from its checkpoint. Each rung uses the same data for every
trial, so scores can be compared. A promoted trial is a new trial for Ray Tune; it finds the first rungs done.

Proposals are a pure function of earlier results (proposals.py), so the trials' records are all the state there is. A
search that was killed and is started again makes the same proposals and reads the scores it already has.
"""

from __future__ import annotations

import json
import logging
import math
import os
import pickle
import shutil
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Literal

from ..cluster import connection, prestart, spread
from ..cluster.driver_folder import DriverFolder, enter_folder, is_shared, marked_folder
from ..cluster.plan import NODE_LABEL, Plan, check_own_node, trials_per_gpu
from ..errors import Refusal
from ..files import write_json
from ..recipes.ranges import Count, Natural
from ..training.handover import NotAtHome
from .attempt import MAX_LOST_WORKERS, Attempt, mark_killed_for_memory
from .earlier import SEARCH, Key, adopt_trial, find_searches, index_trials
from .objective import Objective
from .proposals import GridStudy, Proposal, Study, milestones
from .space import grid_combinations
from .trials import FIT, RECORD, Trial, read_trial, read_trials, trial_name

TUNE_SETTINGS = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # it would return what there is as if the search had ended
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",  # the trials' records are the state
    "TUNE_MAX_PENDING_TRIALS_PG": "8",  # start trials side by side: proposals do not depend on timing
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
}
OnTrial = Callable[[Trial, Path], None]
log = logging.getLogger(__name__)
Proposals = dict[str, tuple[str, Proposal]]  # {Ray Tune's id of a trial: (arm, proposal)}


def search(
    objective: Objective,
    folder: Path,
    on_trial: OnTrial | None = None,
    *,
    space: dict,
    sampler: Literal["tpe", "grid"] = "tpe",
    samples: Count = 12,
    seed: Natural = 0,
    parallel: Count = 1,
    reduction: Count = 3,
    start: list | None = None,
) -> dict[str, list[Trial]]:
    """Run the same search for each arm of the objective, side by side, and return {arm: its trials by number}.

    Trial n is in `folder`/<arm>/trial-n; `on_trial(trial, its folder)` is called whenever a trial ends or pauses.
    An arm without a finished trial raises the trial's error or a Refusal.

    space: {dotted key: {low, high, log} or {choices: [...]}}; with low and high as whole numbers (4, not 4.0) only
    whole numbers are tried. A choice may be a whole section, whose arguments may have such entries, too.
    sampler: "grid" tries every combination of the choices with all rungs, whatever `samples` is.
    samples: trials per arm. With more of them later, the same ones come first, and their scores are still there.
    parallel: trials per arm at a time.
    reduction: of the trials that reach rung 1, r, r^2 ... one in r is promoted; with 1, all are.
    start: values {dotted key: value} of the first trials; the sampler chooses what they leave out.
    """
    os.environ.update(TUNE_SETTINGS)
    record = {
        "identity": objective.identity,
        "monitor": objective.monitor,
        "rungs": objective.rungs,
        "space": space,
        "sampler": sampler,
        "samples": samples,
        "seed": seed,
        "parallel": parallel,
        "reduction": reduction,
        "start": start or [],
        "arms": list(objective.arms),
        "cumulative": objective.cumulative,
    }
    connection.connect()
    if sampler == "grid":
        samples = len(grid_combinations(space))
    arguments = (samples, parallel, objective.monitor, seed, objective.rungs, reduction, start or ())

    def make_studies() -> dict[str, Study | GridStudy]:
        if sampler == "grid":
            return {arm: GridStudy(space, objective.rungs) for arm in objective.arms}
        return {arm: Study(space, *arguments) for arm in objective.arms}

    max_proposals = samples * len(objective.arms) * len(milestones(objective.rungs, reduction))
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / SEARCH, record)
    with marked_folder(folder) as driver:
        limits: dict[str, Any] = {"max_proposals": max_proposals, "on_trial": on_trial}
        try:
            errors = _run_tune(objective, folder, driver, make_studies(), **limits)
        except NotAtHome:
            node = check_own_node(Plan(1, objective.gpu))
            log.warning("trials run on this machine alone: others of the cluster do not share its folder")
            errors = _run_tune(objective, folder, driver, make_studies(), **limits, node=node)
    for fit in folder.glob(f"*/*/{FIT}"):
        shutil.rmtree(fit)
    trials = {arm: read_trials(folder / arm, samples) for arm in objective.arms}
    for arm, arm_trials in trials.items():
        if not any(trial.finished for trial in arm_trials):
            reason = next((trial.diverged for trial in arm_trials if trial.diverged), "give it more samples")
            raise errors[0] if errors else Refusal(f"tune: no trial of '{arm}' finished: {reason}")
    return trials


def _run_tune(
    objective: Objective,
    folder: Path,
    driver: DriverFolder,
    studies: dict[str, Study | GridStudy],
    *,
    max_proposals: int,
    on_trial: OnTrial | None,
    node: str | None = None,
) -> list[Exception]:
    """Run all proposals of the studies on Ray Tune and return the errors of trials that were given up.

    node: the one that runs all trials; None: any.
    """
    from ray import tune
    from ray.tune import CheckpointConfig, FailureConfig, RunConfig, TuneConfig, Tuner

    search_id = uuid.uuid4().hex[:8]
    proposals: Proposals = {}
    earlier = index_trials(find_searches(folder, objective.identity))
    searcher = _make_searcher(studies, proposals, objective.monitor, folder, earlier)
    follower = _make_follower(objective, folder, proposals, on_trial)
    if prestart.is_kept_cluster():
        _use_waiting_workers()
    begin = partial(Attempt, objective, folder.resolve(), search_id)
    resources = trial_resources(objective.gpu)
    worker = _make_worker(begin, resources.get("GPU", 0.0), driver)
    request: Any = resources
    if node is not None:
        request = tune.PlacementGroupFactory([resources], bundle_label_selector=[{NODE_LABEL: node}])
    tuner = Tuner(
        tune.with_resources(worker, request),
        tune_config=TuneConfig(
            search_alg=searcher,
            num_samples=max_proposals,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: str(trial.trial_id),
        ),
        run_config=RunConfig(
            name=search_id,
            storage_path=str(folder.resolve() / "ray"),
            failure_config=FailureConfig(max_failures=MAX_LOST_WORKERS),
            checkpoint_config=CheckpointConfig(checkpoint_at_end=False),
            callbacks=[follower],
            verbose=0,
        ),
    )
    try:
        return [error for error in tuner.fit().errors if error is not None]
    except Exception as error:
        raise spread.root_cause(follower.error or error) from None
    finally:
        shutil.rmtree(folder / "ray", ignore_errors=True)


def trial_resources(gpu: bool) -> dict[str, float]:
    """Return what a trial takes of the cluster: a CPU, and its share of a GPU if it runs on one."""
    return {"CPU": 1.0, "GPU": 1 / trials_per_gpu()} if gpu else {"CPU": 1.0}


def _make_searcher(
    studies: dict[str, Study | GridStudy],
    proposals: Proposals,
    monitor: tuple[str, str],
    folder: Path,
    earlier: dict[Key, Trial],
) -> Any:
    """Return Ray Tune's searcher that proposes for the arm with the fewest proposals so far and notes it.

    A proposal gets the record of an earlier trial with the same values, if there is one.
    """
    from ray.tune.search import Searcher

    class ProposingSearcher(Searcher):
        def suggest(self, trial_id: str) -> Any:
            """Return the config of the next trial, None to wait for a running one, or FINISHED."""
            for arm in sorted(studies, key=lambda arm: len(studies[arm].proposals)):
                if proposal := studies[arm].propose():
                    proposals[trial_id] = (arm, proposal)
                    values = json.dumps(proposal.values)
                    trial_folder = folder / arm / trial_name(proposal.number)
                    adopt_trial(earlier, arm, proposal.number, proposal.values, trial_folder)
                    return {"arm": arm, "number": proposal.number, "values": values, "until": proposal.target_rungs}
            return Searcher.FINISHED if all(study.finished for study in studies.values()) else None

        def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
            arm, proposal = proposals[trial_id]
            score = result[monitor[0]] if result and not error else math.nan
            studies[arm].record_score(proposal, None if math.isnan(score) else score)

        def save(self, checkpoint_path: str) -> None:
            """Save nothing: the trials' records are the state."""

    return ProposingSearcher(metric=monitor[0], mode=monitor[1])


def _make_follower(objective: Objective, folder: Path, proposals: Proposals, on_trial: OnTrial | None) -> Any:
    """Return Ray Tune's callback that reports trials to `on_trial` and stops the search on an error of our own code."""
    from ray.exceptions import RayTaskError
    from ray.tune import Callback

    class Follower(Callback):
        error: Exception | None = None  # of our own code, not a lost worker

        def __reduce__(self) -> tuple[Any, tuple]:
            """Pickle without state: Ray Tune saves a copy that is never used, and `on_trial` holds open files."""
            return Callback, ()

        def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
            arm, proposal = proposals[trial.trial_id]
            trial_folder = folder / arm / trial_name(proposal.number)
            record = read_trial(trial_folder)
            if on_trial is not None and record is not None:
                on_trial(record, trial_folder)

        def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
            """Record a trial that Ray Tune gives up, so that it is reported like any other."""
            self._raise_own_error(trial)
            arm, proposal = proposals[trial.trial_id]
            trial_folder = folder / arm / trial_name(proposal.number)
            record = write_lost(trial_folder, arm, proposal, objective.cumulative)
            if on_trial is not None:
                on_trial(record, trial_folder)

        def on_trial_recover(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
            arm, proposal = proposals[trial.trial_id]
            error = self._raise_own_error(trial)
            if "low on memory" in str(error):  # Ray itself ended the worker
                mark_killed_for_memory(folder / arm / trial_name(proposal.number))

        def _raise_own_error(self, trial: Any) -> Exception:
            """Return the error of a lost worker; raise that of our own code, because trying again would not help."""
            error: Exception = pickle.loads(Path(trial.pickled_error_file).read_bytes())  # just written by Ray
            if isinstance(error, RayTaskError):
                self.error = error
                raise error
            return error

    return Follower()


def write_lost(folder: Path, arm: str, proposal: Proposal, cumulative: bool) -> Trial:
    """Write into the trial's record that its workers died too often, and return it; its finished rungs remain."""
    now = time.time_ns() // 1_000_000
    record = read_trial(folder)
    if record is None or record.values != proposal.values:
        record = Trial(arm, proposal.number, proposal.values, cumulative=cumulative, began=now)
    record.lost = f"given up: its worker was lost {MAX_LOST_WORKERS + 1} times"
    record.ended = now
    write_json(folder / RECORD, asdict(record))
    return record


def _use_waiting_workers() -> None:
    """Start Tune's actors without a runtime environment, so that they can use workers which wait on a kept cluster.

    The raylet of a kept cluster already has the settings that Tune would give to each actor.
    """
    import ray
    from ray.tune.execution import tune_controller
    from ray.tune.execution.class_cache import _ActorClassCache

    class PlainActorClassCache(_ActorClassCache):
        def get(self, trainable_cls: type) -> Any:
            """Return the actor class without options."""
            if trainable_cls not in self._cache:
                self._cache[trainable_cls] = ray.remote(trainable_cls)
            return self._cache[trainable_cls]

    controller_module: Any = tune_controller
    controller_module._ActorClassCache = PlainActorClassCache


# ------------------------------------------------------------------------------------------------ on the worker


def _make_worker(begin: Callable[[dict[str, Any]], Attempt], share: float, driver: DriverFolder) -> type:
    """Return Ray Tune's actor class: each trial that it runs is one attempt.

    share: of a GPU. A trial that needs more of its memory runs out of memory itself, not the others that share the GPU.
    """
    from ray.tune import Trainable

    class Worker(Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            """Set up the process for its first trial."""
            import torch

            from ..cluster import allocator

            allocator.keep_freed_memory()
            torch.set_num_threads(1)
            if 0 < share < 1 and torch.cuda.is_available():
                torch.cuda.set_per_process_memory_fraction(share)
            self.reset_config(config)

        def reset_config(self, config: dict[str, Any]) -> bool:
            self.attempt: Attempt | None = None
            if is_shared(driver):
                enter_folder(driver)
                self.attempt = begin(config)
            return True

        def step(self) -> dict[str, Any]:
            """Run the next rung."""
            if self.attempt is None:  # refused here, because Ray Tune takes an error in `setup` for a lost worker
                raise NotAtHome(f"{driver.path}: is not shared by all machines; run from a folder that they share")
            return self.attempt.step()

    return Worker
