"""Search over a recipe's values: Optuna's TPE proposes, ASHA stops the poor ones early; the only importer of `ray.tune`.

Trials are light: plain functions on reused actors, each on one CPU (or GPU), no process group. A trial reports after
every rung (a fold, or an epoch); the same rung is the same data for every trial, so early stopping compares like with
like. Killed and started again with the same folder, the search repeats no finished trial.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from components.ranges import Count, Natural
from components.refusal import Refusal, closest

Report = Callable[[dict[str, float]], bool]  # scores after a rung; True: ASHA stops this trial


@dataclass
class Trial:
    number: int
    values: dict[str, Any]  # dotted recipe key -> value
    rungs: list[dict[str, float]] = field(default_factory=list)  # scores after each rung: means so far
    finished: bool = False  # False: stopped early
    seconds: float = 0.0
    accumulate: int = 1  # > 1 after running out of memory

    @property
    def scores(self) -> dict[str, float]:
        return self.rungs[-1] if self.rungs else {}


def search(
    trial: Callable[..., Any],
    arguments: dict[str, Any],
    folder: Path,
    rungs: int,
    monitor: tuple[str, str],
    gpu: bool = False,
    on_trial: Callable[[Trial], None] | None = None,
    *,
    space: dict,
    samples: Count = 12,
    seed: Natural = 0,
    parallel: Count | None = None,
    reduction: Count = 3,
) -> list[Trial]:
    """All trials in order of their numbers, best to be picked by `best`.

    `trial(values, accumulate, report, **arguments)` runs on a worker and calls `report(scores)` after each of `rungs` rungs.
    space: {dotted key: {low, high, log} or {choices: [...]}}; reduction: ASHA keeps one in so many at each rung.
    """
    from ray import tune
    from ray.tune import FailureConfig, RunConfig, TuneConfig, Tuner
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    name, mode = monitor
    path = folder.resolve() / "search"
    trainable = tune.with_resources(
        tune.with_parameters(_run, trial=trial, arguments=arguments, rungs=rungs, monitor=name),
        {"CPU": 1, "GPU": 1} if gpu else {"CPU": 1},
    )
    if Tuner.can_restore(str(path)):
        tuner = Tuner.restore(str(path), trainable, resume_unfinished=True, resume_errored=True)
    else:
        import optuna

        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=max(4, samples // 3))
        distributions = {key: _distribution(key, given) for key, given in space.items()}
        tuner = Tuner(
            trainable,
            tune_config=TuneConfig(
                search_alg=OptunaSearch(distributions, metric=name, mode=mode, sampler=sampler),
                scheduler=ASHAScheduler(metric=name, mode=mode, max_t=rungs, grace_period=1, reduction_factor=reduction),
                num_samples=samples,
                max_concurrent_trials=parallel,
                reuse_actors=True,
            ),
            run_config=RunConfig(
                name=path.name,
                storage_path=str(path.parent),
                failure_config=FailureConfig(max_failures=3),
                callbacks=[_follower(path, on_trial)] if on_trial else [],
                verbose=0,
            ),
        )
    results = tuner.fit()
    errors = [error for error in results.errors if error is not None]
    trials = sorted(_trials(path), key=lambda t: t.number)
    if not any(t.finished for t in trials):
        raise errors[0] if errors else Refusal("tune: no trial finished; give it more samples")
    return trials


def best(trials: list[Trial], monitor: tuple[str, str]) -> Trial:
    """The best of those that went all the way; equal scores are told apart by the lower loss, then the lower number."""
    name, mode = monitor
    sign = 1 if mode == "max" else -1
    return max(
        (t for t in trials if t.finished), key=lambda t: (sign * t.scores[name], -t.scores.get("loss", 0), -t.number)
    )


def check_space(space: Any, known: dict[str, Any], where: str = "tune.space") -> None:
    """Refuses a search space that names no value of the (flattened) recipe `known`, or says nothing to search."""
    if not isinstance(space, dict) or not space:
        raise Refusal(f"{where}: must map dotted recipe keys to {{low, high, log}} or {{choices: [...]}}")
    for key, given in space.items():
        if key not in known:
            raise Refusal(f"{where}: the recipe has no value '{key}'{closest(key, known)}")
        choices = given.get("choices") if isinstance(given, dict) else None
        if choices is not None and isinstance(choices, list) and choices and set(given) == {"choices"}:
            continue
        if not isinstance(given, dict) or not {"low", "high"} <= set(given) <= {"low", "high", "log"}:
            raise Refusal(f"{where}.{key}: needs {{low, high}} with an optional log: true, or {{choices: [...]}}")
        if not given["low"] < given["high"] or (given.get("log") and given["low"] <= 0):
            raise Refusal(f"{where}.{key}: low must be below high, and above 0 on a log scale; it is {given}")


def _distribution(key: str, given: dict[str, Any]) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if "choices" in given:
        return CategoricalDistribution(given["choices"])
    whole = isinstance(given["low"], int) and isinstance(given["high"], int)
    return (IntDistribution if whole else FloatDistribution)(given["low"], given["high"], log=given.get("log", False))


def _run(config: dict[str, Any], trial: Callable, arguments: dict[str, Any], rungs: int, monitor: str) -> None:
    """On the worker: one trial; its record is written beside the search after every rung."""
    import torch
    from ray import tune

    from components import allocator

    allocator.keep_freed_memory()
    torch.set_num_threads(1)
    context = tune.get_context()
    folder = Path(context.get_trial_dir())
    number = int(str(context.get_trial_id()).rpartition("_")[2] or 0)
    attempts = len(list(folder.glob("attempt-*")))
    (folder / f"attempt-{attempts}").touch()
    record = Trial(number, config, accumulate=2**attempts)
    started = time.monotonic()

    def report(scores: dict[str, float]) -> bool:
        record.rungs.append(scores)
        record.seconds = time.monotonic() - started
        record.finished = len(record.rungs) == rungs
        draft = folder / ".trial.json"
        draft.write_text(json.dumps(asdict(record)))
        os.replace(draft, folder / "trial.json")
        tune.report(scores)
        return False

    trial(config, record.accumulate, report, **arguments)


def _trials(path: Path) -> list[Trial]:
    return [Trial(**json.loads(file.read_text())) for file in path.glob("*/trial.json")]


def _follower(path: Path, on_trial: Callable[[Trial], None]) -> Any:
    from ray.tune import Callback

    class Follower(Callback):
        def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
            file = Path(trial.local_path) / "trial.json"
            if file.is_file():
                on_trial(Trial(**json.loads(file.read_text())))

    return Follower()
