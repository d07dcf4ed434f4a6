"""The note of a mirror in a run's folder: how much of the run was sent, and where to."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ..errors import Refusal, first_line
from ..files import read_object, write_json

NOTE = "mirror.json"
log = logging.getLogger(__name__)


@dataclass
class Note:
    """The content of `mirror.json` in a run's folder: how much of the run was sent, and where to."""

    uri: str = ""  # of the tracker, without credentials
    id: str = ""  # of the run, as in run.json
    offsets: dict[str, int] = field(default_factory=dict)  # name of a journal -> bytes of it that were sent
    attempts: int = 0  # how many of the attempts in run.json were sent
    run: str | None = None  # MLflow's id of the run
    deleted: bool = False  # whether the run was deleted at MLflow
    missing: list[str] = field(default_factory=list)  # files that were gone before they could be sent

    def write(self, folder: Path) -> None:
        """Write the note to the run's folder, without the fields that are not set yet."""
        facts = {name: value for name, value in asdict(self).items() if value not in (None, False)}
        if not self.missing:
            del facts["missing"]
        write_json(folder / NOTE, facts)


def read_note(folder: Path) -> Note | None:
    """Return the note in a run's folder, or None if nothing of the run was sent yet.

    A damaged note is reported and counts as none: everything is sent again, which changes nothing at the tracker.
    """
    file = folder / NOTE
    if not file.exists():
        return None
    try:
        facts = read_object(file)
        facts.pop("models", None)  # of an earlier version of this project
        note = Note(**facts)
        kinds = {"uri": str, "id": str, "offsets": dict, "attempts": int, "deleted": bool}
        for name, kind in {**kinds, "missing": list}.items():
            if type(getattr(note, name)) is not kind:
                raise ValueError(f"'{name}' is not of type {kind.__name__}")
        if not all(type(offset) is int and offset >= 0 for offset in note.offsets.values()):
            raise ValueError("an offset is not a count")
        if not all(isinstance(text, str) for text in note.missing):
            raise ValueError("'missing' holds more than texts")
        if not isinstance(note.run, str | None):
            raise ValueError("'run' is not a text")
        return note
    except (Refusal, ValueError, TypeError) as error:
        log.warning("%s is damaged (%s): the run is sent again", file, first_line(error))
        return None
