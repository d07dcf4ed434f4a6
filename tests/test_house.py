"""The architecture, guarded: imports point one way, nobody forks the loop, no drawer for odds and ends."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted([*ROOT.glob("components/**/*.py"), *ROOT.glob("pipelines/**/*.py")])

# Who may import whom, a line per layer: a module imports from its own folder and from the lines below, never upward.
LAYERS = [
    ("pipelines.__main__",),
    ("pipelines.commands",),
    ("pipelines.prepare", "pipelines.augment", "pipelines.pretrain", "pipelines.tune", "pipelines.finetune"),
    ("pipelines.evaluate", "pipelines.fit"),
    ("pipelines.reports",),
    ("pipelines.workers",),
    ("pipelines.stage",),
    ("components.search", "components.tracking"),
    ("components.cluster",),
    ("components.verdicts",),
    ("components.tasks",),
    ("components.training",),
    ("components.drawings",),
    ("components.models", "components.losses", "components.metrics", "components.decoding"),
    ("components.layers", "components.augment"),
    ("components.optimizers", "components.schedules"),
    ("components.data",),
    ("components.originals",),
    ("components.storage",),
    ("components.recipes", "components.runs"),
    ("components.files", "components.network", "components.processes", "components.workspace"),
    ("components.errors",),
]
OWNERS = {
    "ray": {
        "components.cluster.spread",
        "components.cluster.controller",
        "components.cluster.jobs",
        "components.cluster.prestart",
        "components.search.ray_tune",
    },
    "mlflow": {
        "components.tracking.server",  # its server, its client
        "components.tracking.mirror",  # records
        "components.runs.system_metrics",  # GPUs
        "components.tracking.registry",  # versions
        "components.tracking.predictor",  # serving
    },
    "dvc": set(),
}


def name_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(file: Path) -> list[tuple[str, bool]]:
    """(module, whether at top level)."""
    tree = ast.parse(file.read_text())
    for node in ast.walk(tree):  # what only a type checker imports points nowhere
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    top = {id(node) for node in tree.body}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) in top) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module != "__future__":
            owners = name_of(file).split(".") + ["__init__"] * (file.name == "__init__.py")
            base = owners[: -node.level] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found += [(f"{module}.{alias.name}", id(node) in top) for alias in node.names]
    return found


def layer(module: str) -> int | None:
    return next(
        (i for i, row in enumerate(LAYERS) if any(module == p or module.startswith(f"{p}.") for p in row)), None
    )


def test_every_module_has_a_layer() -> None:
    assert len(FILES) > 30
    homeless = [name_of(f) for f in FILES if layer(name_of(f)) is None and name_of(f) != "components"]
    assert homeless == []


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_imports_point_down(file: Path) -> None:
    mine = layer(name_of(file))
    for module, _ in imports(file):
        if module.split(".")[0] in ("components", "pipelines") and module not in ("components", "pipelines"):
            assert layer(module) is not None, f"{name_of(file)} imports {module}, which has no layer"
            assert layer(module) >= mine, f"{name_of(file)} imports {module}, which lies above it"


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_ray_mlflow_and_dvc_have_few_importers(file: Path) -> None:
    for module, _ in imports(file):
        owner = OWNERS.get(module.split(".")[0])
        assert owner is None or name_of(file) in owner, f"{name_of(file)} imports {module}"


SERVED = {"torch", "numpy", "safetensors", "yaml", "pyarrow", "tqdm", "mlflow", "components"}


@pytest.mark.parametrize("file", [f for f in FILES if name_of(f).partition(".")[2]], ids=name_of)
def test_a_served_model_needs_few_packages(file: Path) -> None:
    """What a task, a model or a data column imports when it is imported, whoever loads the model must have."""
    if name_of(file).split(".")[1] not in ("tasks", "models", "losses", "layers", "metrics", "exported", "predictor"):
        return
    found = {module.split(".")[0] for module, top in imports(file) if top}
    assert found - set(sys.stdlib_module_names) <= SERVED


def test_no_drawer_for_odds_and_ends() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    bad = {"utils", "util", "misc", "common", "helpers", "helper"}
    assert [path for path in tracked if bad & {part.removesuffix(".py") for part in path.split("/")}] == []


def test_only_the_engine_loops_over_steps() -> None:
    """Optimisers step in `update.py`, and nothing but the engine starts an update."""
    for file in FILES:
        text = file.read_text()
        if name_of(file) != "components.training.update":
            assert ".optimizers[name].step(" not in text
            assert "optimizer.step(" not in text, name_of(file)
        if name_of(file) != "components.training.engine":
            assert "update.begin(" not in text, name_of(file)


AT_IMPORT = {
    "components.tracking.predictor": {"set_model(Predictor())"},  # how MLflow is told of a model that is code
    "components.recipes.recipe": {
        "_Unique.add_implicit_resolver"
    },  # of a class of its own, for which PyYAML has no other way
    "pipelines.__main__": {"run()"},  # is no module that is imported
}


def done_at_import(body: list[ast.stmt]) -> list[str]:
    """Calls that are statements, and assignments into anything but a name of the module's own."""
    found = []
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        assigned = isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign | ast.Delete)
        into = getattr(node, "targets", [getattr(node, "target", None)]) if assigned else []
        parts = [part for target in into for part in getattr(target, "elts", [target])]
        called = isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant)
        if called or any(isinstance(part, ast.Attribute | ast.Subscript) for part in parts):
            found.append(ast.unparse(node))
        for inner in ("body", "orelse", "finalbody"):
            found += done_at_import(getattr(node, inner, []))
        for handler in getattr(node, "handlers", []):
            found += done_at_import(handler.body)
    return found


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_nothing_happens_at_import(file: Path) -> None:
    legitimate = AT_IMPORT.get(name_of(file), set())
    done = done_at_import(ast.parse(file.read_text()).body)
    assert [one for one in done if not one.startswith(tuple(legitimate))] == []
    assert len(done) == len(legitimate), "what is allowed and not there any more"


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
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ClassDef):
                parents[node.name] = [ast.unparse(base).rpartition(".")[2] for base in node.bases]
    for name, bases in parents.items():
        for base in bases:
            assert not [b for b in parents.get(base, []) if b in parents], f"{name} is subclassed twice deep"
