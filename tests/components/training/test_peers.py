"""The errors that a worker gets when another one dies."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

import pytest
import torch

from components.training import peers, rendezvous
from components.training.rendezvous import Rendezvous


def _worker(rank: int, place: Rendezvous, exchange: str, folder: Path) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    joined = peers.join_group(rank, 2, place, torch.device("cpu"))
    joined.shares_memory = exchange != "sockets"
    joined.gather("all here")
    if exchange == "memory":
        joined.all_to_all(torch.ones(2, 1, 1), [1, 1])
    group = joined.independent()
    if exchange == "independent":
        group.__enter__()
    if rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    try:
        if exchange == "gather":
            joined.gather(0)
        elif exchange == "independent":
            group.__exit__(None, None, None)
        else:
            joined.all_to_all(torch.ones(2, 1, 1), [1, 1])
    except Exception as error:
        (folder / "error").write_text(f"{peers.is_peer_loss(error)} {type(error).__name__}: {error}")


@pytest.mark.parametrize("exchange", ["gather", "memory", "sockets", "independent"])
def test_the_loss_of_a_worker_is_distinguished_from_other_errors(exchange: str, tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    with rendezvous.private_folder() as place:
        workers = [fork.Process(target=_worker, args=(rank, place, exchange, tmp_path)) for rank in (0, 1)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
    assert (tmp_path / "error").read_text().startswith("True")
    assert not peers.is_peer_loss(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not peers.is_peer_loss(ValueError("reset by peer"))
