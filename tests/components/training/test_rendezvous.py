"""Workers meet in private: on loopback or in a folder of their own, and whoever else comes can run no code."""

from __future__ import annotations

import os
import pickle
import socket
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
import torch.distributed as dist

from components.training import peers, rendezvous
from components.training.peers import Peers

SHORT = timedelta(seconds=0.3)


def listening_hosts() -> set[str]:
    """Return the addresses on which this process listens (/proc/net/tcp)."""
    return {each.laddr.ip for each in psutil.Process().net_connections("inet") if each.status == psutil.CONN_LISTEN}


def note_listeners(joined: Peers, folder: Path) -> None:
    joined.gather(None)
    (folder / f"{joined.rank}").write_text(" ".join(listening_hosts()))
    joined.gather(None)


def test_forked_workers_listen_on_loopback_only(tmp_path: Path) -> None:
    peers.fork_workers(note_listeners, 2, tmp_path)
    assert [(tmp_path / name).read_text() for name in "01"] == ["127.0.0.1", "127.0.0.1"]


def refuse_objects(joined: Peers, folder: Path) -> None:
    with pytest.raises(TypeError, match="is not sent to other workers"):
        joined.gather(folder)
    if joined.rank == 0:
        with pytest.raises(TypeError, match="is not sent to other workers"):
            joined.broadcast(folder)
    joined.gather(None)  # none leaves while another still connects
    (folder / str(joined.rank)).touch()


def test_objects_are_not_gathered(tmp_path: Path) -> None:
    peers.fork_workers(refuse_objects, 2, tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"0", "1"}


class Touch:
    """An object whose unpickling creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def send_bomb(joined: Peers, folder: Path) -> None:
    """Send a pickled object from rank 1, as torch's all_gather_object would, in the place of a message."""
    bomb = pickle.dumps(Touch(folder / "touched"))
    if joined.rank == 1:
        joined._gather_bytes(peers._message_head(bomb), peers.SHORT_MESSAGE)
        return
    with pytest.raises(ValueError, match="cannot be read"):
        joined.gather("ours")
    (folder / "refused").touch()


def test_a_strangers_object_is_not_unpickled(tmp_path: Path) -> None:
    peers.fork_workers(send_bomb, 2, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["refused"]


def test_workers_of_one_machine_meet_in_a_private_folder_that_does_not_remain() -> None:
    with rendezvous.private_folder() as place:
        folder = Path(place.folder)
        assert folder.stat().st_mode & 0o777 == 0o700
        assert folder.stat().st_uid == os.getuid()
        store = rendezvous.open_store(place, 0, 1, SHORT)
        store.set("key", "value")
        assert list(folder.iterdir())
    assert not folder.exists()


def test_the_socket_between_machines_is_bound_to_one_address_before_anyone_hears_of_it() -> None:
    place = rendezvous.meet_at_address("127.0.0.1")
    assert not place.is_local
    with pytest.raises(OSError, match="in use"):
        socket.create_server(("127.0.0.1", place.port))
    before = listening_hosts()
    store = rendezvous.open_store(place, 0, 2, SHORT)
    assert listening_hosts() == before <= {"127.0.0.1", "::1"}
    other = rendezvous.open_store(place, 1, 2, SHORT)
    store.set("key", "value")
    assert other.get("key") == b"value"


def test_keys_of_a_process_without_the_secret_do_not_matter() -> None:
    place = rendezvous.meet_at_address("127.0.0.1")
    store = rendezvous.open_store(place, 0, 2, SHORT)
    stranger = dist.TCPStore("127.0.0.1", place.port, None, False, SHORT)
    guess = dist.PrefixStore("0" * 32, stranger)
    for intruder in (stranger, guess):
        intruder.set("key", "a stranger's")
    with pytest.raises(dist.DistStoreError):
        store.get("key")
    store.set("key", "ours")
    assert store.get("key") == b"ours"
    with pytest.raises(dist.DistStoreError):
        guess.get("another key")


def test_every_run_has_a_secret_of_its_own() -> None:
    with rendezvous.private_folder() as first, rendezvous.private_folder() as second:
        assert first.folder != second.folder
        assert first.secret != second.secret
        assert len(bytes.fromhex(first.secret)) == 16


def meet_at_socket(joined: Peers, folder: Path) -> None:
    assert joined.gather(joined.rank) == [0, 1]
    assert joined.broadcast(torch.full((300,), float(joined.rank))).sum() == 0
    with joined.independent():
        pass
    (folder / str(joined.rank)).touch()


def test_a_group_forms_at_a_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the place of workers on several machines, whose first worker passes its socket on to the store."""
    monkeypatch.setattr(rendezvous, "meet_in_folder", lambda: rendezvous.meet_at_address("127.0.0.1"))
    peers.fork_workers(meet_at_socket, 2, tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"0", "1"}
