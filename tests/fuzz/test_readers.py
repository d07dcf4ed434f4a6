"""Whatever a file holds, its reader returns or refuses: no traceback, no crash, not 5 s, not 512 MB."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings

from tests.fuzz.child import run_limited
from tests.fuzz.damage import Damage, byte_damages, json_damages
from tests.fuzz.readers import READERS, Reader, write_bytes

pytestmark = pytest.mark.slow
SECONDS, EXAMPLES = 5, 12
FUZZED = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,  # the same files in every run; delete this line to look for new ones
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module", params=READERS)
def reader(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Reader, Path, Path, bytes]:
    """Return a reader, its folder, the file in it, and the intact content, which it reads."""
    torch.set_num_threads(1)
    case = READERS[request.param]
    folder = tmp_path_factory.mktemp("reader")
    file = case.write(folder)
    check((case, folder, file, file.read_bytes()), lambda data: data)
    return case, folder, file, file.read_bytes()


def check(reader: tuple[Reader, Path, Path, bytes], damage: Damage) -> None:
    case, folder, file, intact = reader
    file.write_bytes(damage(intact))

    def read() -> None:
        text = "read"
        try:
            case.read(folder)
        except case.errors as error:
            text = str(error)
        assert 0 < len(text) < 2000 + len(str(folder)), "an error in a line"

    try:
        run_limited(read, SECONDS)
    finally:
        file.write_bytes(intact)


@FUZZED
@given(damage=byte_damages())
def test_damaged_bytes_are_read_or_refused(reader: tuple[Reader, Path, Path, bytes], damage: Damage) -> None:
    check(reader, damage)


@FUZZED
@given(damage=json_damages())
def test_odd_values_are_read_or_refused(reader: tuple[Reader, Path, Path, bytes], damage: Damage) -> None:
    if reader[0].is_json:
        check(reader, damage)


def test_a_reader_that_fails_is_noticed() -> None:
    """The three limits hold: a traceback, a loop and a large block of memory end the child."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write = write_bytes("a", b"abc")
        for read in (lambda f: 1 / 0, lambda f: bytearray(600 << 20)):
            with pytest.raises(AssertionError, match=r"ZeroDivisionError|MemoryError"):
                check((Reader(write, read), folder, write(folder), b"abc"), lambda data: data)
