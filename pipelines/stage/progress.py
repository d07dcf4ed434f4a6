"""Progress of a stage, read from the journals its workers write: bars on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import Any

from components.runs.journal import LOG, Tail, find_files

EVERY = 5.0  # seconds between two plain lines
SILENT = 10.0  # seconds without a step after which a bar makes room for another


class Progress:
    """Follows `folder`/**/journal.log in a thread until the block ends."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._follow, daemon=True)
        self.tails: dict[Path, Tail] = {}
        self.bars: dict[str, Any] = {}

    def __enter__(self) -> Progress:
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.ended.set()
        self.thread.join()
        for bar in self.bars.values():
            bar.close()

    def _follow(self) -> None:
        while not self.ended.wait(0.5 if sys.stderr.isatty() else EVERY):
            self._show()
        self._show()

    def _show(self) -> None:
        for file in find_files(LOG, self.folder):
            tail = self.tails.setdefault(file, Tail(file))
            latest = [record for record in tail.read_new() if record.kind == "progress"]
            if latest:
                title = " ".join([self.name, *file.parent.relative_to(self.folder).parts])
                self._line(title, latest[-1].payload)

    def _line(self, title: str, now: dict[str, Any]) -> None:
        values = "  ".join(f"{name} {value:.4g}" for name, value in now["values"].items())
        speed = f"{now['speed']:,.0f} examples/s"
        if not sys.stderr.isatty():
            print(f"{title}: step {now['step']}/{now['steps']}  {values}  {speed}", file=sys.stderr, flush=True)
            return
        from tqdm import tqdm

        if title not in self.bars:  # some are worked at side by side; those that stopped early say nothing any more
            for other in [name for name, bar in self.bars.items() if time.monotonic() - bar.heard > SILENT]:
                self.bars.pop(other).close()
            self.bars[title] = tqdm(total=now["steps"], desc=title, unit="step", leave=True)
        bar = self.bars[title]
        bar.n, bar.heard = now["step"], time.monotonic()
        bar.set_postfix_str(f"{values}  {speed}", refresh=True)
        if now["step"] >= now["steps"]:
            self.bars.pop(title).close()
