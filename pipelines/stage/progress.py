"""Show the progress of a stage from the journals that its workers write: bars on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import Any

from components.runs.journal import LOG, RESUME, WARNING, Tail, find_files

LINE_INTERVAL = 5.0  # seconds between two plain lines
BAR_INTERVAL = 0.5  # seconds between two updates of the bars
IDLE_TIMEOUT = 10.0  # seconds without a step after which a bar makes room for another


class Progress:
    """A background thread that follows every journal.log below a folder while the `with` block runs."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        self.began = time.time_ns() // 1_000_000  # the journals also hold lines of earlier attempts
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._follow, daemon=True)
        self.tails: dict[Path, Tail] = {}
        self.bars: dict[str, Any] = {}  # title -> tqdm bar
        self.updated: dict[str, float] = {}  # title -> time of the bar's last step

    def __enter__(self) -> Progress:
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.ended.set()
        self.thread.join()
        for bar in self.bars.values():
            bar.close()

    def _follow(self) -> None:
        while not self.ended.wait(BAR_INTERVAL if sys.stderr.isatty() else LINE_INTERVAL):
            self._show()
        self._show()

    def _show(self) -> None:
        """Show the newest progress record of each journal that has one, warnings, and resumes on other hardware."""
        for file in find_files(LOG, self.folder):
            tail = self.tails.setdefault(file, Tail(file))
            records = tail.read_new()
            title = " ".join([self.name, *file.parent.relative_to(self.folder).parts])
            for record in records:
                if record.kind == RESUME and record.time >= self.began:
                    self._show_resume(title, record.payload)
                if record.kind == WARNING and record.time >= self.began:
                    print(f"{title}: {record.payload['text']}", file=sys.stderr, flush=True)
            payloads = [record.payload for record in records if record.kind == "progress"]
            if payloads:
                self._show_record(title, payloads[-1])

    def _show_resume(self, title: str, resume: dict[str, Any]) -> None:
        before, now = ("; ".join(resume[name]) for name in ("before", "now"))
        line = f"{title}: resumes at step {resume['step']} with {now}, not {before} as before: the bytes may differ"
        print(line, file=sys.stderr, flush=True)

    def _show_record(self, title: str, progress: dict[str, Any]) -> None:
        values = "  ".join(f"{name} {value:.4g}" for name, value in progress["values"].items())
        speed = f"{progress['speed']:,.0f} examples/s"
        if sys.stderr.isatty():
            self._update_bar(title, progress["step"], progress["steps"], f"{values}  {speed}")
        else:
            line = f"{title}: step {progress['step']}/{progress['steps']}  {values}  {speed}"
            print(line, file=sys.stderr, flush=True)

    def _update_bar(self, title: str, step: int, steps: int, text: str) -> None:
        from tqdm import tqdm

        if title not in self.bars:
            # Several fits run at the same time, and one that stops early never reaches its last step.
            for other in list(self.bars):
                if time.monotonic() - self.updated[other] > IDLE_TIMEOUT:
                    self.bars.pop(other).close()
            self.bars[title] = tqdm(total=steps, desc=title, unit="step", leave=True)
        bar = self.bars[title]
        bar.n = step
        self.updated[title] = time.monotonic()
        bar.set_postfix_str(text, refresh=True)
        if step >= steps:
            self.bars.pop(title).close()
