"""Compare BERT's pretraining here and in a bare loop of transformers: `python -m benchmarks.pretraining` (3 minutes).

Both train the same sizes on the same rows of Python's manual, with the same loss (hidden tokens and next sentence) and
AdamW, in turns, each in its own process. The bare loop holds all rows as tensors and does nothing else; the engine
clips the gradient as well, and prepares its run anew for each epoch. Where torch sees a GPU, all run there, BERT-Base
too.

bare:    transformers' BertForPreTraining, which computes the scores of the whole vocabulary for every token
engine:  engine.fit with our BERT, which does so for the hidden tokens alone
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks import race
from components.augment.masking import Masking
from components.data.manual import Manual
from components.data.sentence_pairs import SentencePairs
from components.models.bert import BERT
from components.optimizers import adamw
from components.storage.dataset import prepare_dataset
from components.storage.feed import Feed
from components.storage.store import Store
from components.tasks.pretraining import Pretraining
from components.tokens.wordpiece import WordPiece
from components.training import engine
from components.training.peers import Peers
from components.training.task import Spec

LENGTH = 128
ROUNDS = 5


class Setting(NamedTuple):
    """The sizes of a BERT, and how many steps of how many rows an epoch of a contender has."""

    width: int
    layers: int
    heads: int
    batch: int
    steps: int


SETTINGS = {
    "small": Setting(128, 2, 2, 16, 12),
    "middle": Setting(384, 6, 6, 16, 3),
    "base": Setting(768, 12, 12, 64, 12),
}
PRECISIONS = ("float32", "bfloat16")


def find_device() -> torch.device:
    """Return the first GPU, or the processor."""
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


def prepare_rows(folder: Path) -> Store:
    """Return the prepared rows, written on first use."""
    if not (folder / "manifest.json").is_file():
        data: Any = SentencePairs(Manual, partial(WordPiece, size=6000), Masking, length=LENGTH, maskings=1)
        prepare_dataset(data, folder)
    return Store(folder)


def make_bare(setting: Setting, precision: str, store: Store) -> Callable[[], None]:
    """Return an epoch of the plain loop over transformers' network."""
    from transformers import BertConfig, BertForPreTraining

    device = find_device()
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(store.manifest["classes"]),
        hidden_size=setting.width,
        num_hidden_layers=setting.layers,
        num_attention_heads=setting.heads,
        intermediate_size=4 * setting.width,
        max_position_embeddings=LENGTH,
    )
    net: Any = BertForPreTraining(config)
    net.to(device).train()
    optimizer = torch.optim.AdamW(net.parameters(), 1e-4)
    rows = Feed(store.split("train")).gather(np.arange(setting.batch * setting.steps))
    tokens, segments, positions, target = (
        rows[name].long().to(device) for name in ("token", "segment", "position", "target")
    )
    labels = torch.full(tokens.shape, -100, device=device).scatter(1, positions, target.where(target != 0, -100))
    order = rows["unrelated"].long().to(device)

    def run_epoch() -> None:
        for part in torch.randperm(len(tokens), device=device).split(setting.batch):
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
                loss = net(
                    tokens[part],
                    (tokens[part] != 0).long(),
                    segments[part],
                    labels=labels[part],
                    next_sentence_label=order[part],
                ).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        loss.item()

    return run_epoch


def make_engine(setting: Setting, precision: str, store: Store, compiled: bool = False) -> Callable[[], None]:
    """Return an epoch of the engine."""
    device = find_device()
    sizes = {"width": setting.width, "layers": setting.layers, "heads": setting.heads, "inner": 4 * setting.width}
    torch.manual_seed(0)
    net = BERT(len(store.manifest["classes"]), positions=LENGTH, **sizes)
    task = Pretraining(lambda vocabulary: net, partial(adamw, lr=1e-4))
    columns = {name: tuple(column["shape"]) for name, column in store.manifest["columns"].items()}
    spec = Spec(columns, tuple(store.manifest["classes"]), {}, store.tokenizers())
    feed = Feed(store.split("train"), np.arange(setting.batch * setting.steps), device)
    options: dict[str, Any] = {"epochs": 1, "batch": setting.batch, "precision": precision, "clip": 1.0}

    def run_epoch() -> None:
        engine.fit(task, spec, feed, None, None, Peers(device=device), compile=compiled, **options)

    return run_epoch


def make_contender(name: str, size: str, precision: str, folder: Path) -> Callable[[], None]:
    """Return an epoch of a contender."""
    store = prepare_rows(folder)
    if name == "bare":
        return make_bare(SETTINGS[size], precision, store)
    return make_engine(SETTINGS[size], precision, store, compiled=name == "engine, compiled")


def compare(size: str, rounds: int, folder: Path) -> None:
    """Print the tokens per second of all contenders of one size, and their ratios within a round."""
    setting = SETTINGS[size]
    names = ["bare", "engine"] + ["engine, compiled"] * torch.cuda.is_available()
    keys = [(name, precision) for precision in PRECISIONS for name in names]
    commands = {", ".join(key): ["benchmarks.pretraining", "--serve", *key, size, str(folder)] for key in keys}
    seconds = race.race(commands, rounds)
    tokens = setting.batch * setting.steps * LENGTH
    print(f"\n{size}: {setting.layers} layers of {setting.width}, {setting.batch} rows of {LENGTH} tokens\n")
    print("| contender | precision | tokens/s | of bare |\n|---|---|---|---|")
    for name, precision in keys:
        own, bare = seconds[f"{name}, {precision}"], seconds[f"bare, {precision}"]
        speed = tokens / statistics.median(own)
        ratio = race.median_and_range([b / s for s, b in zip(own, bare, strict=True)], 2)
        print(f"| {name} | {precision} | {speed:,.0f} | {ratio} |")
    print(flush=True)


def main() -> None:
    """Compare the sizes named on the command line; by default those that the machine is made for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    defaults = ["small", "middle"] + ["base"] * torch.cuda.is_available()
    parser.add_argument("sizes", nargs="*", default=defaults, help=", ".join(SETTINGS))
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--serve", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if unknown := set(arguments.sizes) - set(SETTINGS):
        parser.error(f"no size {', '.join(sorted(unknown))}; there are {', '.join(SETTINGS)}")
    if arguments.serve:
        name, precision, size, folder = arguments.serve
        return race.serve(make_contender(name, size, precision, Path(folder)))
    with tempfile.TemporaryDirectory(prefix="trainyard-bench-") as folder:
        prepare_rows(Path(folder))
        for size in arguments.sizes:
            compare(size, arguments.rounds, Path(folder))


if __name__ == "__main__":
    main()
