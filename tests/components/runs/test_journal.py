"""The journal survives torn lines, and a run resumed from a checkpoint writes no line twice."""

from __future__ import annotations

import math
import shutil
import threading
import time
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.processes import background_thread
from components.runs import journal
from components.runs.journal import LOG, Journal, Tail, find_files, read_records


def write(lines: Journal, first: int, last: int, shift: float = 0.0) -> None:
    for step in range(first, last):
        lines.write("metric", step=step, epoch=step / 4, values={"loss": 1 / (step + 1) + shift})
        lines.write("progress", step=step, steps=9, values={}, speed=float(step + first))


def test_floats_keep_every_bit(tmp_path: Path) -> None:
    values = [0.1 + 0.2, 1e-310, math.inf, -math.inf, math.nan]
    Journal(tmp_path / "j").write("metric", values=values)
    restored = read_records(tmp_path / "j")[0].payload["values"]
    assert [a == b or (math.isnan(a) and math.isnan(b)) for a, b in zip(values, restored, strict=True)] == [True] * 5


@given(st.integers(0, 200))
def test_a_torn_end_is_dropped_and_overwritten(tmp_path_factory, cut: int) -> None:
    path = tmp_path_factory.mktemp("journal") / "j"
    write(Journal(path), 0, 3)
    blob = path.read_bytes()
    path.write_bytes(blob[: max(0, len(blob) - cut)])
    count = len(read_records(path))
    write(Journal(path), 9, 10)
    steps = [record.payload["step"] for record in read_records(path)]
    assert steps == [*[0, 0, 1, 1, 2, 2][:count], 9, 9]


def test_reading_ends_at_a_flipped_bit(tmp_path: Path) -> None:
    write(Journal(tmp_path / "j"), 0, 3)
    blob = bytearray((tmp_path / "j").read_bytes())
    blob[blob.index(b'"step": 1') + 8] ^= 1
    (tmp_path / "j").write_bytes(blob)
    assert [record.payload["step"] for record in read_records(tmp_path / "j")] == [0, 0]


def test_a_resumed_run_keeps_the_lines_that_are_equal(tmp_path: Path) -> None:
    write(Journal(tmp_path / "j"), 0, 6)
    before = (tmp_path / "j").read_bytes()
    again = Journal(tmp_path / "j", position=4)
    write(again, 2, 5)
    assert (tmp_path / "j").read_bytes() == before  # with the times and speeds of the first attempt
    assert again.position == 10
    write(again, 5, 8)
    assert [r.payload["step"] for r in read_records(tmp_path / "j", "metric")] == list(range(8))


def test_a_resumed_run_with_other_values_replaces_what_came_after(tmp_path: Path) -> None:
    write(Journal(tmp_path / "j"), 0, 6)
    write(Journal(tmp_path / "j", position=4), 2, 4, shift=1.0)
    metrics = [r.payload for r in read_records(tmp_path / "j", "metric")]
    assert [m["step"] for m in metrics] == [0, 1, 2, 3]
    assert metrics[-1]["values"]["loss"] > 1
    again = Journal(tmp_path / "j", position=6)  # and resumed once more
    write(again, 3, 5, shift=1.0)
    metrics = [r.payload for r in read_records(tmp_path / "j", "metric")]
    assert [m["step"] for m in metrics] == [0, 1, 2, 3, 4]
    assert (tmp_path / "j").read_bytes().count(b'"rewind"') == 1


def test_a_tail_reads_revoked_lines_too_each_once(tmp_path: Path) -> None:
    tail = Tail(tmp_path / "j")
    write(Journal(tmp_path / "j"), 0, 6)
    records = tail.read_new()
    write(Journal(tmp_path / "j", position=4), 2, 4, shift=1.0)
    records += tail.read_new()
    assert [r.payload["step"] for r in records if r.kind == "metric"] == [0, 1, 2, 3, 4, 5, 2, 3]


def test_a_tail_beyond_a_damaged_end_that_was_cut_off_starts_again(tmp_path: Path) -> None:
    write(Journal(tmp_path / "j"), 0, 3)
    tail = Tail(tmp_path / "j")
    tail.read_new()
    blob = bytearray((tmp_path / "j").read_bytes())
    blob[blob.index(b'"step": 1') + 8] ^= 1
    (tmp_path / "j").write_bytes(blob)
    lines = Journal(tmp_path / "j")
    assert tail.read_new() == [*read_records(tmp_path / "j")]
    lines.write("text", text="x" * 1000)  # longer than what was cut off, so that no line ends at the tail's offset
    assert [r.kind for r in tail.read_new()] == ["text"]


def test_a_tail_reads_each_line_once_and_waits_for_complete_ones(tmp_path: Path) -> None:
    lines, tail = Journal(tmp_path / "j"), Tail(tmp_path / "j")
    assert tail.read_new() == []
    write(lines, 0, 2)
    assert len(tail.read_new()) == 4
    with (tmp_path / "j").open("ab") as file:
        file.write(b"0000")
    assert tail.read_new() == []
    assert tail.read_new() == []


def test_files_are_found_while_others_are_deleted(tmp_path: Path) -> None:
    """A search deletes Ray's own folders in its run while a thread looks there for journals."""
    for name in ("b/c", "a", "."):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / name / LOG).touch()
    expected = sorted(tmp_path / name / LOG for name in ("b/c", "a", "."))

    def create_and_delete(ended: threading.Event) -> None:
        while not ended.is_set():
            for number in range(20):
                (tmp_path / "b" / f"x{number}" / "y").mkdir(parents=True)
            for number in range(20):
                shutil.rmtree(tmp_path / "b" / f"x{number}")

    with background_thread(create_and_delete):
        for _ in range(2000):
            assert find_files(LOG, tmp_path, tmp_path / "a") == expected


# ------------------------------------------------------------------------------------------------ offsets and positions


def payloads(records: list[journal.Record], key: str = "n") -> list[int]:
    return [record.payload[key] for record in records]


def write_numbers(lines: Journal, *numbers: int) -> None:
    for number in numbers:
        lines.write("text", n=number)


def test_the_offset_of_a_tail_is_the_byte_after_the_last_complete_line(tmp_path: Path) -> None:
    path = tmp_path / "j"
    write_numbers(Journal(path), 1, 2, 3)
    blob = path.read_bytes()
    ends = [index + 1 for index, byte in enumerate(blob) if byte == ord("\n")]
    for cut in range(len(blob) + 1):
        path.write_bytes(blob[:cut])
        tail = Tail(path)
        complete = sum(end <= cut for end in ends)
        assert payloads(tail.read_new()) == [1, 2, 3][:complete]
        assert tail.offset == (ends[complete - 1] if complete else 0)
        path.write_bytes(blob)
        assert payloads(tail.read_new()) == [1, 2, 3][complete:], "what was torn is read when it is complete"
        assert tail.offset == len(blob)
    assert payloads(Tail(path, ends[1]).read_new()) == [3]
    assert payloads(Tail(path, ends[1] - 1).read_new()) == [1, 2, 3], "not at the start of a line"
    assert payloads(Tail(path, ends[1] + 1).read_new()) == [1, 2, 3]
    assert Tail(path, len(blob)).read_new() == []


def test_news_name_each_rewind_and_what_it_revoked(tmp_path: Path) -> None:
    path, tail = tmp_path / "j", Tail(tmp_path / "j")
    assert tail.read_news() == journal.News(0, [], {})
    write_numbers(Journal(path), 1, 2, 3)
    news = tail.read_news()
    assert (news.count, payloads(news.records), news.superseded) == (3, [1, 2, 3], {})
    again = Journal(path, position=1)
    write_numbers(again, 20, 30)
    news = tail.read_news()
    assert (news.count, payloads(news.records)) == (3, [20, 30]), "the rewind and two lines"
    assert {number: payloads(records) for number, records in news.superseded.items()} == {1: [2, 3]}
    third = Journal(path, position=2)
    third.write_resume(n=0, threads=2)
    write_numbers(third, 31)
    fourth = Journal(path, position=0)
    write_numbers(fourth, 1, 21)
    news = tail.read_news()
    assert payloads(news.records) == [21, 0]
    assert {number: payloads(records) for number, records in news.superseded.items()} == {2: [30], 3: [20, 31]}
    assert tail.read_news() == journal.News(0, [], {})
    assert payloads(read_records(path)) == [1, 21]
    everything = Tail(path).read_news()
    assert sorted(everything.superseded) == [1, 2, 3]
    assert payloads(everything.records) == [1, 21, 0]


@pytest.mark.parametrize(("position", "stands"), [(None, 3), (0, 0), (2, 2), (3, 3), (4, 3)])
def test_a_journal_continues_at_its_position_or_at_its_end(tmp_path: Path, position: int | None, stands: int) -> None:
    write_numbers(Journal(tmp_path / "j"), 1, 2, 3)
    lines = Journal(tmp_path / "j", position)
    assert lines.position == stands
    write_numbers(lines, 9)
    assert lines.position == stands + 1
    assert payloads(read_records(tmp_path / "j")) == [*[1, 2, 3][:stands], 9]


def test_a_line_has_its_checksum_time_and_kind(tmp_path: Path) -> None:
    begin = time.time()
    Journal(tmp_path / "j").write("text", n=1)
    (record,) = read_records(tmp_path / "j")
    assert record.kind == "text"
    assert begin - 0.001 <= record.time / 1000 <= time.time()
    crc, _, body = (tmp_path / "j").read_bytes().rstrip(b"\n").partition(b" ")
    assert int(crc, 16) == zlib.crc32(body)
    assert len(crc) == 8


def test_metrics_are_read_in_their_order(tmp_path: Path) -> None:
    lines = Journal(tmp_path / LOG)
    lines.write("metric", step=1, epoch=0.5, values={"loss": 2.0})
    lines.write("progress", step=1)
    lines.write("metric", step=2, values={"loss": 1.0})
    first, second = journal.read_metrics(tmp_path)
    assert (first.step, first.epoch, first.values) == (1, 0.5, {"loss": 2.0})
    assert (second.step, second.values) == (2, {"loss": 1.0})
    assert math.isnan(second.epoch)


def test_a_copy_is_made_once_per_digest(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a").write_text("1")
    copy = journal.copy_to_run(tmp_path / "run", tmp_path / "folder", "0123456789abcdef7")
    assert copy == tmp_path / "run" / "kept" / "0123456789abcdef" / "folder"
    (tmp_path / "folder" / "a").write_text("2")
    assert journal.copy_to_run(tmp_path / "run", tmp_path / "folder", "0123456789abcdef8") == copy
    assert (copy / "a").read_text() == "1"
    file = journal.copy_to_run(tmp_path / "run", tmp_path / "folder" / "a", "f" * 64)
    assert file.read_text() == "2"
