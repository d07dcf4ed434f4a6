"""Check the flagship's report and DVC's plots, both written from the files of a run."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from components.errors import Refusal
from components.files import write_json
from components.recipes import recipe
from components.tracking import mirror
from pipelines.reports import plots, report
from pipelines.reports.links import find_links, noted_links
from tests.pipelines.conftest import ROOT, TRIALS, answers, metrics, read

INPUTS = {  # file: the command that the page must name where the file is missing
    "metrics/evaluate.json": "dvc repro evaluate",
    "tune/best.json": "dvc repro tune",
    "plots/tune.csv": "dvc repro tune",
    "plots/pretrain.csv": "dvc repro pretrain",
    "plots/finetune.csv": "dvc repro finetune",
    "plots/confusion.csv": "dvc repro evaluate",
    "plots/mistakes.svg": "dvc repro evaluate",
    ".trainyard/seconds.json": "dvc repro",
}


def words(page: str) -> str:
    """Return the text of a page, drawings included."""
    body = page.split("<body>")[1]
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", body)))


def drawn(path: Path) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", path.read_text())


# ------------------------------------------------------------------------------------------------ the page


def test_page_shows_the_content_of_the_files(results: Path) -> None:
    written, right = report.write_report(), int(np.equal(*answers()).sum())
    text = words(written[0].read_text())
    for sentence in (
        "Fine-tuned, the model gets 95.1% of 1,697 test examples right; from scratch on the same 100 labels, 88.3%: "
        "a gain of 6.8 points.",
        "fine-tuned 0.9514 0.9433 to 0.9588 ± 0.0029 0.1710",
        "from scratch 0.8832 0.8705 to 0.8955 ± 0.0084 0.4120",
        "gain +0.0682 +0.0561 to +0.0802 -0.2410",
        "Fine-tuning wins on 2 of 2 seeds",
        "fine-tuned 0.0822 16 0.9500 3 1",
        "from scratch 0.1 32 0.8500 2 1",
        f"{right} of 400 predictions of the first seed are right",
        f"8 1 13 {13 / (400 - right):.0%}",
        "data set source-set target-set",
        "100 train, 1,697 test",
        "36: 0, 1, 2, 3, 4, 5 ... 35",
        "18 seconds in all, from the last run of each stage",
        "use: tasks.classification.Classification",
        "8 → 1 p=0.98",
        "fine-tuned, 2 seeds fine loss training 0.5 of finetuned 0 none needed",
        "pretrain model bias loss training 0.5 of pretrain use a more expressive model: more layers",
    ):
        assert sentence in text
    assert "Not there yet" not in text
    assert all(path.is_file() for path in written)
    assert len({path.name for path in written}) == len(written) >= 11


def test_newest_verdict_of_a_run_is_shown_with_its_remedies(results: Path) -> None:
    verdict = {"run": "finetuned 1", "verdict": "over-fitting", "reasons": ["loss training 0, test 1"]}
    write_json(".trainyard/runs/evaluate-2/fits/finetuned-1/verdict.json", verdict)
    write_json(".trainyard/runs/lenet-1/verdict.json", verdict | {"run": "fashion/lenet"})
    text = words(report.write_report()[0].read_text())
    assert "fine-tuned, 1 seed fine" in text
    assert "fine-tuned, 1 seed over-fitting loss training 0, test 1 use more training data, or augmentation" in text
    assert "fashion/lenet over-fitting" in text


def test_confusion_matrix_is_that_of_scikit_learn(results: Path) -> None:
    report.write_report()
    truth, predicted = answers()
    expected = confusion_matrix(truth, predicted)
    written = Counter(drawn(results / "reports/confusion.svg"))
    axes = Counter([str(n) for n in range(10)] * 2)
    assert written - axes - Counter(["Confusion, fine-tuned", "truth", "predicted"]) == Counter(
        str(count) for count in expected[expected > 0]
    )


def test_curves_are_drawn_from_enough_points(results: Path) -> None:
    """14 epochs: the mean of each. 3 epochs: the values of single steps, for three points show no curve."""
    report.write_report()
    tuned = (results / "reports/finetune-training-loss.svg").read_text()
    lines = re.findall(r'<path d="([^"]+)"[^>]*style="fill: none; stroke: #(?:1f6feb|d9651a)', tuned)
    assert [line.count("L") + 1 for line in lines[:2]] == [14, 14]
    assert len(lines) == 2 * (2 + 1) + 2  # per arm: two seeds, the mean, and the sample in the legend
    early = (results / "reports/pretrain-training-loss.svg").read_text()
    assert max(line.count("L") + 1 for line in re.findall(r'<path d="([^"]+)"', early)) > 20
    assert (results / "reports/pretrain-validation-accuracy.svg").is_file()
    assert not (results / "reports/finetune-validation-accuracy.svg").exists()  # nothing was held out there


def test_same_files_give_the_same_page(results: Path) -> None:
    first = {path.name: path.read_bytes() for path in report.write_report()}
    assert {path.name: path.read_bytes() for path in report.write_report()} == first


def test_page_fetches_nothing(results: Path) -> None:
    page = report.write_report()[0].read_text()
    assert not re.search(r"<(script|link|iframe)\b|@import|url\(['\"]?https?:", page)
    assert not re.search(r"src=['\"](?!data:)", page)


@pytest.mark.parametrize(("path", "command"), INPUTS.items())
def test_missing_files_are_named_with_their_command(results: Path, path: str, command: str) -> None:
    (results / path).unlink()
    page = report.write_report()[0].read_text()
    assert "Not there yet" in page
    assert f"<code>{command}</code>" in page


def test_page_before_the_first_run_lists_commands(results: Path) -> None:
    for path in ("metrics", "tune", "plots", "data", "reports", ".trainyard"):
        shutil.rmtree(results / path, ignore_errors=True)
    text = words(report.write_report()[0].read_text())
    assert "No result yet: run dvc repro" in text
    assert text.count("Not there yet") == 9


@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        ("metrics/evaluate.json", "{", "metrics/evaluate.json: can't be read"),
        ("metrics/evaluate.json", '{"accuracy": 1}', "evaluate.json: has no 'accuracy_low'"),
        ("plots/tune.csv", "arm,accuracy\na,1\n", "plots/tune.csv: has no column 'trial'"),
        ("plots/finetune.csv", "run,epoch,train/loss\nscratch 0,1,0.2.3\n", "'0.2.3' in column 'train/loss'"),
    ],
)
def test_broken_files_are_refused_in_one_line(results: Path, path: str, content: str, message: str) -> None:
    (results / path).write_text(content)
    with pytest.raises(Refusal) as refused:
        report.write_report()
    assert message in str(refused.value)
    assert "run its stage again" in str(refused.value)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"gain": 0.01, "gain_low": -0.02, "gain_high": 0.04}, "a gain of 1.0 points, but no clear difference."),
        ({"gain": -0.03, "gain_low": -0.04, "gain_high": -0.02}, "a loss of 3.0 points."),
    ],
)
def test_first_sentence_claims_no_more_than_the_interval(results: Path, change: dict, sentence: str) -> None:
    write_json("metrics/evaluate.json", metrics() | change)
    assert sentence in words(report.write_report()[0].read_text())


def test_any_searched_values_are_shown(results: Path) -> None:
    """The space has a number without a log scale, and a choice of texts."""
    rows = ["arm,trial,task.optimizer.momentum,fit.precision,accuracy,finished"]
    rows += [f"scratch,{n},0.{n},{'bfloat16' if n % 2 else 'float32'},0.8{n},True" for n in range(1, 5)]
    (results / "plots/tune.csv").write_text("\n".join(rows))
    values = {"fit.precision": "float32", "task.optimizer.momentum": 0.4}
    write_json("tune/best.json", {"scratch": {"values": values, "scores": {"accuracy": 0.84}, "trials": 4}})
    space = {
        "task.optimizer.momentum": {"low": 0.1, "high": 0.9},
        "fit.precision": {"choices": ["float32", "bfloat16"]},
    }
    params = recipe.overlay(recipe.load("params.yaml"), {"tune.search.space": space})
    (results / "params.yaml").write_text(json.dumps(params))
    text = words(report.write_report()[0].read_text())
    assert "from scratch float32 0.4 0.8400 4 0" in text
    assert {"momentum", "precision float32", "precision bfloat16", "best"} <= set(drawn(results / "reports/search.svg"))


def test_command_writes_the_report(results: Path) -> None:
    (results / ".dvc").mkdir()
    command = [sys.executable, "-m", "pipelines", "report"]
    done = subprocess.run(
        command, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT), "PATH": ""}, check=True
    )
    assert done.stdout.strip() == f"reports/index.html: open file://{results.resolve()}/reports/index.html"
    assert (results / "reports/index.html").is_file()
    assert (results / ".dvc/plots.html").is_file()


# ------------------------------------------------------------------------------------------------ links


def test_links_lead_to_the_runs_and_are_noted(results: Path) -> None:
    assert find_links("glyphs-to-digits") == noted_links() == {"front page": "http://127.0.0.1:5000"}  # no store yet
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{results}/mlflow.db")
    identity = client.create_experiment("glyphs-to-digits")
    links = find_links("glyphs-to-digits")
    assert links == noted_links()
    pages = [
        address for address in links.values() if f"http://127.0.0.1:5000/#/experiments/{identity}/runs?" in address
    ]
    assert any("compareRunsMode=CHART" in address for address in pages)
    page = html.unescape(report.write_report()[0].read_text())
    assert all(f'<a href="{address}">' in page for address in links.values())


def test_report_needs_no_tracker(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9/")
    assert find_links("glyphs-to-digits") == {"front page": "http://127.0.0.1:9"}


def test_stage_with_a_shared_mirror_shows_the_noted_links(results: Path, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    noted = {"front page": "http://127.0.0.1:9", "all pipelines": "http://127.0.0.1:9/#/experiments/1"}
    write_json(".trainyard/links.json", noted)
    monkeypatch.setenv(mirror.SHARED, str(Path(".trainyard/runs").resolve()))
    assert find_links("glyphs-to-digits") == noted
    monkeypatch.delenv(mirror.SHARED)
    assert find_links("glyphs-to-digits") == {"front page": "http://127.0.0.1:9"}, "asked, and nobody answers there"


# ------------------------------------------------------------------------------------------------ DVC's plots

STAGES = """\
stages:
  pretrain:
    cmd: "true"
    plots: [{plots/pretrain.csv: {cache: false, x: epoch, y: train/loss}}]
  tune:
    cmd: "true"
    plots: [{plots/tune.csv: {cache: false, template: search, x: task.optimizer.lr, y: accuracy}}]
  finetune:
    cmd: "true"
    plots: [{plots/finetune.csv: {cache: false, template: runs, x: epoch, y: epoch/loss}}]
  evaluate:
    cmd: "true"
    plots: [{plots/confusion.csv: {cache: false, template: confusion, x: predicted, y: truth}}]
"""


@pytest.fixture
def shown(results: Path) -> str:
    """Return the page that `dvc plots show` writes."""
    dvc = [sys.executable, "-m", "dvc"]
    subprocess.run([*dvc, "init", "--no-scm", "--quiet"], check=True)
    subprocess.run([*dvc, "config", "plots.html_template", "plots.html"], check=True)
    shutil.copytree(ROOT / ".dvc/plots", ".dvc/plots")
    plots.write_template()
    (results / "dvc.yaml").write_text(STAGES)
    subprocess.run([*dvc, "plots", "show"], check=True, capture_output=True)
    return (results / "dvc_plots/index.html").read_text()


def test_dvc_plots_draw_without_a_network(shown: str, results: Path) -> None:
    """Every drawing is rendered from the specification in DVC's page, with the version of Vega in the page."""
    import vl_convert

    assert "vegaEmbed" in shown
    assert "{plot_divs}" not in shown
    assert not re.search(r"<(script|link)[^>]+https?://|cdn\.", shown)
    policy = re.search(r'<meta http-equiv="Content-Security-Policy" content="([^"]+)">', shown)
    assert policy, "scripts run, but load and send nothing"
    assert policy.start() < shown.index("<script>")
    assert "default-src 'none'" in policy[1]
    assert not re.search(r"connect-src|https?:|\*", policy[1])
    specs = [json.loads(spec) for spec in re.findall(r"var spec = (\{.*\});", shown)]
    assert len(specs) == 4
    svgs = {s["title"]["text"]: vl_convert.vegalite_to_svg(s, vl_version=plots.VEGA_LITE) for s in specs}
    by_file = {re.sub(r"\W+", "", title): svg for title, svg in svgs.items()}
    search = next(svg for name, svg in by_file.items() if "tune" in name and "fine" not in name)
    points = re.findall(r'aria-roledescription="point"[^>]*fill-opacity="([01])"', search)
    assert Counter(points) == Counter("1" if folds == 4 else "0" for *_, folds in TRIALS)
    runs = next(svg for name, svg in by_file.items() if "finetune" in name)
    assert (
        len(re.findall(r'aria-roledescription="line mark"', runs)) == 4 + 2
    )  # a line per run, and the mean of each arm
    matrix = next(svg for name, svg in by_file.items() if "confusion" in name)
    assert len(re.findall(r'aria-roledescription="rect mark"', matrix)) >= np.count_nonzero(
        confusion_matrix(*answers())
    )


def test_dvc_plots_draw_in_a_real_browser(shown: str, results: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium on this machine")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    options += ["--disable-component-update", "--disable-sync", "--host-resolver-rules=MAP * ~NOTFOUND"]
    options += [f"--user-data-dir={tmp_path_factory.mktemp('profile')}", "--virtual-time-budget=10000", "--dump-dom"]
    page = f"file://{results}/dvc_plots/index.html"
    done = subprocess.run([chromium, *options, page], capture_output=True, text=True, timeout=120, check=True)
    svgs = re.findall(r'<svg [^>]*class="marks".*?</svg>', done.stdout, re.DOTALL)
    assert [svg.count('aria-roledescription="point"') for svg in svgs] == [0, len(TRIALS), 0, 0]
    assert [svg.count('aria-roledescription="line mark"') for svg in svgs] == [
        2,
        0,
        6,
        0,
    ]  # DVC's own: raw and smoothed


def test_template_is_written_once_per_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = plots.write_template(tmp_path / "plots.html")
    content = path.read_bytes()
    assert 500_000 < len(content) < 2_000_000
    assert all(content.count(b"{%s}" % name) == 1 for name in (b"plot_divs", b"refresh_tag"))
    path.write_bytes(content + b"mark")
    assert plots.write_template(path).read_bytes() == content + b"mark"
    monkeypatch.setattr(plots, "VEGA_LITE", "5.20")
    assert b"Vega-Lite 5.20" in plots.write_template(path).read_bytes()
    assert read(ROOT / ".dvc/plots/runs.json")["data"] == {"values": "<DVC_METRIC_DATA>"}


# ------------------------------------------------------------------------------------------------ own recipes


def test_own_results_have_a_section_and_without_the_flagship_the_page(results: Path, tmp_path: Path) -> None:
    for number, name in enumerate(("cats", "mails", "owls", "pets")):
        folder = Path("results/own") / name
        write_json(folder / "metrics.json", {"accuracy": 0.5 + number / 8, "loss": 1.0})
        write_json(folder / "cost.json", {"train_seconds": 1234.5})
        (folder / "pictures").mkdir()
        shutil.copy("plots/mistakes.svg", folder / "pictures" / "drawn.svg")
        (folder / "pictures" / "mistakes.txt").write_text(f"{name}: <spam> taken for ham")
        os.utime(folder / "metrics.json", (number, number))
    text = words(report.write_report()[0].read_text())
    assert "Result Your own data Fine-tuning" in text
    assert "mails accuracy 0.625, loss 1 1,234" in text
    assert "pets: <spam> taken for ham" in text
    assert "cats: drawn" not in text  # the oldest
    Path("metrics/evaluate.json").unlink()
    page = report.write_report()[0].read_text()
    assert "The results of your own recipes." in page
    assert "No result yet" not in page
    assert "Your own data Diagnosis Time Look further" in words(page)
