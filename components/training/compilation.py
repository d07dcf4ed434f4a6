"""Compile the forward passes of a run's modules if a trial shows that it pays (`fit.compile: auto`).

Compiled arithmetic may differ from eager arithmetic in the last bits. A run therefore decides once, before its first
step, and stores the choice in its folder: every worker and every later attempt follows it. Only those training calls
are compiled whose arguments have the shapes of the trial, each shape by itself. So the code that computes a shard
follows from its shape, not from what a worker computed before.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..errors import Refusal, first_line
from ..files import check_fields, read_object, write_json
from ..workspace import work_folder
from .peers import Peers
from .recorder import RunRecorder, describe_processor
from .task import State

CHOICE_FILE = "compile.json"  # in a run's folder
TAG = "fit.compile"  # of a run: what it chose
CHOICE_FIELDS = {"compiled": bool, "reason": str, "calls": list}
MIN_SECONDS = 60.0  # of all steps: shorter runs cannot win back a compilation, which takes 10 to 40 s
MIN_SPEEDUP = 1.05  # smaller ones are within the noise of a trial
MAX_CALLS = 4  # different calls that a trial may compile: torch keeps 8 versions of a function
ROUNDS, ROUND_SECONDS = 5, 0.2  # of a trial, for each way
CACHE_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"


@dataclass(frozen=True)
class Choice:
    """Whether a run compiles its modules, and why."""

    compiled: bool
    reason: str
    calls: list[str] = field(default_factory=list)  # descriptions of the calls that are compiled


def compile_run(
    mode: bool | Literal["auto"], state: State, recorder: RunRecorder, run_trial: Callable[[], Choice]
) -> AbstractContextManager[Any]:
    """Return a context in which the run's modules are compiled as `fit.compile` says."""
    if mode == "auto":
        choice = choose(recorder.peers, recorder.folder, state.step, run_trial)
        if state.step == 0:
            recorder.log_tag(TAG, "compiled" if choice.compiled else "eager")
            recorder.log_tag(f"{TAG}.reason", choice.reason)
        return compile_calls(state.modules, set(choice.calls)) if choice.compiled else nullcontext()
    if mode:
        use_private_cache()
        for module in state.modules.values():
            module.compile(dynamic=False)  # each shape by itself, as below
    return nullcontext()


def choose(peers: Peers, folder: Path | None, step: int, run_trial: Callable[[], Choice]) -> Choice:
    """Return the choice of the run in `folder`, the same on every worker; without one, run the trial on rank 0.

    step: the step from which the run resumes. If it has no choice by then, its first steps were eager.
    """
    choice = None
    if peers.rank == 0:
        choice = None if folder is None else _read_choice(folder / CHOICE_FILE)
        if choice is None:
            choice = Choice(False, "the run was begun without") if step else run_trial()
            if folder is not None:
                write_json(folder / CHOICE_FILE, asdict(choice))
    return Choice(**peers.broadcast(choice and asdict(choice)))


def _read_choice(file: Path) -> Choice | None:
    """Return the choice in a file, or None if there is no such file."""
    if not file.exists():
        return None
    try:
        record = read_object(file)
        check_fields(record, CHOICE_FIELDS)
        return Choice(**{name: record[name] for name in CHOICE_FIELDS})
    except (OSError, ValueError) as error:
        raise Refusal(
            f"{file}: damaged ({first_line(error)}), so it is unknown whether the run was compiled; delete its folder"
        ) from None


# ------------------------------------------------------------------------------------------------ the trial


def run_trial(
    state: State,
    make_step: Callable[[State], Callable[[], None]],
    steps: int,
    clock: Callable[[], float] = time.perf_counter,
) -> Choice:
    """Train copies of `state` on one shard, with eager and with compiled modules in turn, and compare the speeds.

    make_step: returns a function that trains its argument by one step. steps: how many steps of one shard are ahead of
    a worker. Whatever goes wrong in the trial, the run stays eager.
    """
    if any(parameter.is_cuda for module in state.modules.values() for parameter in module.parameters()):
        return Choice(False, "tried on a CPU only; on a GPU, set fit.compile to true or false")

    def time_steps(step: Callable[[], None], count: int = 1) -> float:
        """Return the seconds per step over `count` steps."""
        start = clock()
        for _ in range(count):
            step()
        return (clock() - start) / count

    eager = make_step(_copy_for_training(state))
    time_steps(eager)
    seconds = time_steps(eager)
    if seconds * steps < MIN_SECONDS:
        return Choice(False, f"{seconds * steps:.0f} s of steps do not win back a compilation")
    copy = _copy_for_training(state)
    compiled = make_step(copy)
    try:
        with compile_calls(copy.modules, None) as calls:
            compilation = time_steps(compiled) - seconds
            time_steps(compiled)
            graphs = _count_graphs()
            count = max(1, round(ROUND_SECONDS / seconds))
            times = [(time_steps(eager, count), time_steps(compiled, count)) for _ in range(ROUNDS)]
    except Exception as error:
        # no compiler, an operation that cannot be compiled, a second derivative, too little memory
        return Choice(False, f"the network cannot be compiled: {first_line(error)}")
    if not calls or len(calls) > MAX_CALLS or _count_graphs() > graphs:
        return Choice(False, f"{len(calls)} different calls, or code that changes between steps")
    before, after = map(min, zip(*times, strict=True))
    speeds = f"{before / after:.2f} times the eager speed after {compilation:.0f} s of compilation"
    pays = (before - after) * steps > compilation and before / after >= MIN_SPEEDUP
    return Choice(pays, speeds, sorted(calls) if pays else [])


def _copy_for_training(state: State) -> State:
    copy = deepcopy(state)
    for module in copy.modules.values():
        module.train()
    return copy


def _count_graphs() -> int:
    """Return how many graphs this process has compiled."""
    from torch._dynamo.utils import counters

    return int(counters["stats"]["unique_graphs"])


# ------------------------------------------------------------------------------------------------ compiled modules


@contextmanager
def compile_calls(modules: dict[str, nn.Module], calls: set[str] | None) -> Iterator[set[str]]:
    """Compile training calls of the modules inside the block; yield the descriptions of those that occur.

    calls: descriptions of the calls to compile; None: all.
    """
    from torch._dynamo.exc import FailOnRecompileLimitHit

    use_private_cache()
    compiled_calls: set[str] = set()
    for module in modules.values():
        module.forward = _dispatch(module, calls, compiled_calls)
    try:
        yield compiled_calls
    except FailOnRecompileLimitHit:
        raise Refusal(
            "fit.compile: auto: the network changes so often that torch compiles it again and again; set it to false"
        ) from None
    finally:
        for module in modules.values():
            del module.forward


def _dispatch(module: nn.Module, calls: set[str] | None, compiled_calls: set[str]) -> Callable[..., Any]:
    """Return a forward function that is compiled for training calls among `calls`, and otherwise the module's own."""
    eager = module.forward
    compiled = torch.compile(eager, dynamic=False, fullgraph=True)

    def forward(*arguments: Any, **named: Any) -> Any:
        if not module.training:
            return eager(*arguments, **named)
        call = _describe_call(arguments, named)
        if calls is not None and call not in calls:
            return eager(*arguments, **named)
        compiled_calls.add(call)
        return compiled(*arguments, **named)

    return forward


def _describe_call(arguments: Any, named: dict[str, Any]) -> str:
    """Return shapes and types of tensors among the arguments of a call, and the values of the other arguments."""
    return ", ".join([*map(_describe, arguments), *(f"{name}={_describe(value)}" for name, value in named.items())])


def _describe(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
    if isinstance(value, list | tuple):
        return f"({', '.join(map(_describe, value))})"
    if isinstance(value, dict):
        return f"({_describe_call((), value)})"
    return repr(value) if isinstance(value, bool | int | float | str | None) else type(value).__name__


def use_private_cache() -> None:
    """Keep compiled code below the work folder, for later runs of this user on processors of this kind.

    The cache holds machine code and pickles, so nobody else may write there. Torch's own default is a folder in /tmp.
    """
    from torch._inductor import config

    # a worker has few processors, and torch would start a pool of processes per worker
    config.compile_threads = 1
    if CACHE_VARIABLE in os.environ:
        return
    kind = f"{describe_processor(torch.device('cpu'))}, torch {torch.__version__}"
    folder = work_folder().resolve() / "compiled" / hashlib.sha256(kind.encode()).hexdigest()[:16]
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        is_private = folder.stat().st_uid == os.getuid() and not folder.stat().st_mode & 0o022
    except OSError:
        is_private = False
    os.environ[CACHE_VARIABLE] = str(folder) if is_private else tempfile.mkdtemp(prefix="trainyard-compiled-")
