"""The architecture, guarded: imports point one way, nobody forks the loop, no drawer for odds and ends."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted([*ROOT.glob("components/**/*.py"), *ROOT.glob("pipelines/**/*.py")])

# Who may import whom, a line per layer: a module imports from its own folder and from the lines below, never upward.
LAYERS = [
    ("pipelines.__main__",),
    ("pipelines.door",),
    ("pipelines.commands",),
    ("pipelines.prepare", "pipelines.augment", "pipelines.pretrain", "pipelines.tune", "pipelines.finetune"),
    ("pipelines.evaluate", "pipelines.fit"),
    ("pipelines.reports",),
    ("pipelines.workers",),
    ("pipelines.stage",),
    ("pipelines.flagship",),
    ("components.search", "components.tracking"),
    ("components.cluster",),
    ("components.verdicts",),
    ("components.tasks",),
    ("components.training",),
    ("components.drawings",),
    ("components.models", "components.losses", "components.metrics", "components.decoding"),
    ("components.layers", "components.augment"),
    ("components.optimizers", "components.schedules"),
    ("components.inspection",),
    ("components.data",),
    ("components.tokens",),
    ("components.originals",),
    ("components.storage",),
    ("components.recipes", "components.runs"),
    (
        "components.environment",
        "components.environment_file",
        "components.exit_code",
        "components.files",
        "components.home",
        "components.network",
        "components.process_guard",
        "components.processes",
        "components.workspace",
    ),
    ("components.errors", "components.safe_text"),
]
OWNERS = {
    "ray": {
        "components.cluster.connection",
        "components.cluster.tokens",
        "components.cluster.plan",
        "components.cluster.spread",
        "components.cluster.controller",
        "components.cluster.health",
        "components.cluster.jobs",
        "components.cluster.prestart",
        "components.search.ray_tune",
    },
    "mlflow": {
        "components.tracking.server",  # its server, its client
        "components.tracking.replay",  # records
        "components.tracking.points",  # metrics
        "components.tracking.model_log",  # models
        "components.runs.system_metrics",  # GPUs
        "components.tracking.registry",  # versions
        "components.tracking.predictor",  # serving
    },
    "dvc": set(),
}


@cache
def parse(file: Path) -> ast.Module:
    return ast.parse(file.read_text())


def name_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@cache
def imports(file: Path, typing: bool = True) -> list[tuple[str, bool]]:
    """Return (dotted name, whether at top level) of all that a file imports; typing: for type checking alone, too."""
    tree = parse(file)
    top = {id(node) for node in tree.body}
    checks = [node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    skipped = {id(inner) for node in checks if not typing for part in node.body for inner in ast.walk(part)}
    names = []
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            names += [(alias.name, id(node) in top) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module != "__future__":
            package = name_of(file).split(".") + ["__init__"] * (file.name == "__init__.py")
            base = package[: -node.level] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names += [(f"{module}.{alias.name}", id(node) in top) for alias in node.names]
    return names


def each_import() -> Iterator[tuple[Path, tuple[str, bool]]]:
    """Yield every file with each of its imports."""
    return ((file, item) for file in FILES for item in imports(file))


def arrows() -> dict[str, set[str]]:
    """Return {module: our own modules that it imports}."""
    modules = {name_of(file) for file in FILES}
    graph = {}
    for file in FILES:
        targets = {part for name, _ in imports(file) for part in (name, name.rpartition(".")[0])}
        graph[name_of(file)] = (targets & modules) - {name_of(file)}
    return graph


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the groups of nodes that reach each other."""
    reach = {node: set(targets) for node, targets in graph.items()}
    grown = True
    while grown:
        grown = False
        for targets in reach.values():
            further = set().union(*(reach[target] for target in targets)) if targets else set()
            grown |= not further <= targets
            targets |= further
    groups = {frozenset(n for n in reach[node] if node in reach[n]) for node in reach if node in reach[node]}
    return sorted(map(sorted, groups))


def layer(module: str) -> int | None:
    return next(
        (i for i, row in enumerate(LAYERS) if any(module == p or module.startswith(f"{p}.") for p in row)), None
    )


def test_every_module_has_a_layer() -> None:
    assert len(FILES) > 30
    modules = {name_of(file) for file in FILES} - {"components", "pipelines"}
    homeless = [module for module in sorted(modules) if layer(module) is None]
    assert homeless == []


def test_imports_point_down() -> None:
    for file, (module, _) in each_import():
        if module.split(".")[0] in ("components", "pipelines") and module not in ("components", "pipelines"):
            assert layer(module) is not None, f"{name_of(file)} imports {module}, which has no layer"
            assert layer(module) >= layer(name_of(file)), f"{name_of(file)} imports {module}, which lies above it"


def test_no_imports_form_a_circle() -> None:
    assert circles(arrows()) == []


def test_a_circle_is_noticed() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == [["b", "c"]]


def test_imports_within_components_are_relative() -> None:
    """The package can then travel with a registered model under a name of its own."""
    absolute = [
        f"{file.relative_to(ROOT)}:{node.lineno}"
        for file in ROOT.glob("components/**/*.py")
        for node in ast.walk(parse(file))
        if isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").split(".")[0] == "components"
    ]
    assert [place for place in absolute if not place.startswith("components/tracking/predictor.py")] == []


def test_every_folder_says_in_a_sentence_what_belongs_there() -> None:
    folders = {file.parent for file in FILES}
    assert len(folders) > 25
    for folder in folders:
        text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
        assert re.fullmatch(r"[A-Z`][^\n]*\.", text), (
            f"{folder.relative_to(ROOT)}/__init__.py needs a docstring of one line"
        )


STAGES = ("prepare", "augment", "pretrain", "tune", "finetune", "evaluate", "fit")


def test_a_folder_of_pipelines_holds_one_kind_of_thing() -> None:
    """Code or recipes, never both; beside the folders only the stages, the flagship's facts and the two ways in."""
    for folder in sorted(path for path in (ROOT / "pipelines").iterdir() if path.is_dir() and path.name[0] != "_"):
        kinds = {path.suffix for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
        assert not {".py", ".yaml"} <= kinds, f"{folder.name} holds code and recipes"
    beside = {path.stem for path in (ROOT / "pipelines").glob("*.py")}
    assert beside == {*STAGES, "flagship", "door", "__init__", "__main__"}


def test_ray_mlflow_and_dvc_have_few_importers() -> None:
    for file, (module, _) in each_import():
        owner = OWNERS.get(module.split(".")[0])
        assert owner is None or name_of(file) in owner, f"{name_of(file)} imports {module}"


SERVED = {"torch", "numpy", "safetensors", "yaml", "pyarrow", "tqdm", "mlflow", "components"}


SERVED_ROOMS = ("tasks", "models", "losses", "layers", "metrics", "tokens", "exported", "predictor")


def test_a_served_model_needs_few_packages() -> None:
    """Whoever loads a model must have every package that its task, model or metric imports at the top."""
    for file, (module, is_top) in each_import():
        package = module.split(".")[0]
        if is_top and name_of(file).split(".")[1:2] and name_of(file).split(".")[1] in SERVED_ROOMS:
            assert package in SERVED | sys.stdlib_module_names, f"{name_of(file)} imports {package}"


def test_no_drawer_for_odds_and_ends() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    bad = {"utils", "util", "misc", "common", "helpers", "helper"}
    assert [path for path in tracked if bad & {part.removesuffix(".py") for part in path.split("/")}] == []


# Module -> what it calls a step of that is not an optimiser.
STEPS = {"components.training.loop": {"self.task"}, "components.search.ray_tune": {"self.attempt"}}


def optimiser_steps(tree: ast.AST, others: Iterable[str] = ()) -> list[str]:
    """Return the expressions that step an optimiser in any spelling; others: what else may be asked for a step."""
    steps = []
    called = {node.func for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "step":
            receiver = ast.unparse(node.value)
            if (node in called and receiver not in others) or re.search("optim|sgd|adam", receiver, re.IGNORECASE):
                steps.append(ast.unparse(node))
        elif isinstance(node, ast.Call) and re.search(r"\b(getattr|methodcaller)$", ast.unparse(node.func)):
            named = any(isinstance(argument, ast.Constant) and argument.value == "step" for argument in node.args)
            steps += [ast.unparse(node)] * named
    return steps


def test_only_one_module_loops_over_steps() -> None:
    """Optimisers step in `update.py`, and nothing but `loop.py` starts an update."""
    for file in FILES:
        name, text = name_of(file), file.read_text()
        if name != "components.training.update" and "step" in text:
            assert optimiser_steps(parse(file), STEPS.get(name, ())) == [], name
        if name != "components.training.loop":
            assert "update.begin(" not in text, name


@pytest.mark.parametrize(
    "code",
    [
        "optimizer.step()",
        "state.optimizers[name].step()",
        "for each in state.optimizers.values():\n    each.step()",
        "self._sgd.step(closure)",
        "advance = optimizer.step",
        "list(map(lambda x: x.step(), parts))",
        "getattr(thing, 'step')()",
        "operator.methodcaller('step')(thing)",
        "torch.optim.SGD.step(thing)",
    ],
)
def test_each_spelling_of_a_step_is_noticed(code: str) -> None:
    assert len(optimiser_steps(ast.parse(code), {"task"})) == 1


def test_the_number_of_a_step_is_not_a_step() -> None:
    assert optimiser_steps(ast.parse("state.step += 1; task.step(state, update); walk.at(record.step)"), {"task"}) == []


AT_IMPORT = {
    "components.tracking.predictor": {"set_model(Predictor())"},  # how MLflow is told of a model that is code
    "components.recipes.recipe": {
        "_BoundedLoader.add_implicit_resolver"
    },  # of a class of its own, for which PyYAML has no other way
    "components.process_guard": {"main()"},  # if it is run as a script
    "pipelines.__main__": {"run()"},  # is no module that is imported
}


def done_at_import(body: list[ast.stmt]) -> list[str]:
    """Calls that are statements, and assignments into anything but a name of the module's own."""
    calls = []
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        assigned = isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign | ast.Delete)
        into = getattr(node, "targets", [getattr(node, "target", None)]) if assigned else []
        parts = [part for target in into for part in getattr(target, "elts", [target])]
        called = isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant)
        if called or any(isinstance(part, ast.Attribute | ast.Subscript) for part in parts):
            calls.append(ast.unparse(node))
        for inner in ("body", "orelse", "finalbody"):
            calls += done_at_import(getattr(node, inner, []))
        for handler in getattr(node, "handlers", []):
            calls += done_at_import(handler.body)
    return calls


def test_nothing_happens_at_import() -> None:
    for file in FILES:
        legitimate = AT_IMPORT.get(name_of(file), set())
        done = done_at_import(parse(file).body)
        assert [call for call in done if not call.startswith(tuple(legitimate))] == [], name_of(file)
        assert len(done) == len(legitimate), f"{name_of(file)}: what is allowed and not there any more"


@pytest.mark.parametrize(
    "code",
    [
        "import ray\nray.Actor = None",
        "import ray\nhidden = ray\nhidden.a.b: int = 1",
        "import os\nos.environ['A'] = 'b'",
        "import os\nfor n in 'ab':\n    del os.environ[n]",
        "from torch import set_num_threads\nif True:\n    set_num_threads(1)",
        "import a\ntry:\n    pass\nexcept OSError:\n    a.b, c = 1, 2",
    ],
)
def test_what_happens_at_import_is_seen(code: str) -> None:
    assert len(done_at_import(ast.parse(code).body)) == 1


@pytest.mark.parametrize(
    "module",
    [
        "pipelines.door",
        "pipelines.commands.cli",
        "pipelines.stage.check",
        "pipelines.commands.run",
        "pipelines.commands.doctor",
        "pipelines.commands.summary",
    ],
)
def test_command_lines_start_light(module: str) -> None:
    heavy = {"torch", "ray", "mlflow", "pandas", "matplotlib"}
    code = f"import sys, {module}; bad = {heavy} & set(sys.modules); assert not bad, bad"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_classes_are_subclassed_once() -> None:
    parents = {}
    for file in FILES:
        for node in ast.walk(parse(file)):
            if isinstance(node, ast.ClassDef):
                parents[node.name] = [ast.unparse(base).rpartition(".")[2] for base in node.bases]
    for name, bases in parents.items():
        for base in bases:
            assert not [b for b in parents.get(base, []) if b in parents], f"{name} is subclassed twice deep"


VAGUE = {
    *("found", "known", "given", "told", "said", "seen", "kept", "left", "made"),
    *("taken", "theirs", "one", "whole", "wanted"),
}
NO_VERB = ("Of", "What", "By", "As", "In", "Without")
WRITTEN = sorted([*FILES, *ROOT.glob("tests/**/*.py"), *ROOT.glob("benchmarks/**/*.py")])


def bound_names(nodes: Iterable[ast.AST]) -> Iterator[tuple[str, int]]:
    """Yield (name, line) of every variable, argument, attribute and definition among the nodes."""
    for node in nodes:
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield (node.id if isinstance(node, ast.Name) else node.attr), node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name.strip("_"), node.lineno
        elif isinstance(node, ast.alias) and node.asname:
            yield node.asname, node.lineno


def test_names_are_nouns_and_docstrings_begin_with_a_verb() -> None:
    faults = []
    for file in WRITTEN:
        place, nodes = file.relative_to(ROOT), list(ast.walk(parse(file)))
        faults += [f"{place}:{line}: {name}" for name, line in bound_names(nodes) if name in VAGUE]
        described = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module)]
        for node in described:
            text, name = ast.get_docstring(node) or "", getattr(node, "name", "")
            if text.split(" ")[0] in NO_VERB:
                faults.append(f"{place}: {name}: {text.splitlines()[0]}")
            if file in FILES and not text and name in VAGUE:
                faults.append(f"{place}: {name} has no docstring")
    assert faults == []


@pytest.mark.parametrize(
    "code", ["found = 1", "def told(): pass", "def f(given): pass", "a.kept = 1", "import x as one"]
)
def test_vague_names_are_noticed(code: str) -> None:
    assert VAGUE & {name for name, _ in bound_names(ast.walk(ast.parse(code)))}
