"""Which worker updates which parameters: each keeps the optimiser's moments of its own parameters alone.

A step sums each gradient on the worker that owns its parameter, which updates it; then the workers exchange parameters
instead of gradients (ZeRO stage 1, Rajbhandari et al. 2020). This moves as many bytes as an exchange of gradients, and
divides the memory of moments by the number of workers. Parameters are owned whole, so that an optimiser does the same
arithmetic on them, bit for bit, on any number of workers.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from .peers import Peers
from .tree import Vector

MIN_PARAMETERS = 2**22  # of a module; with fewer, the moments take less than 32 MiB, and steps would wait once more
MAX_IMBALANCE = 1.25  # of the greatest part to an equal part, up to which `auto` shards moments


Moments = Literal["auto", "replicated", "sharded"]


def shard_moments(parameters: list[nn.Parameter], peers: Peers, moments: Moments) -> ShardedMoments | None:
    """Return how the workers share the moments of a module's parameters, or None where each keeps all of them."""
    if peers.size == 1 or moments == "replicated" or not parameters:
        return None
    sharded = ShardedMoments(parameters, peers)
    if moments == "sharded":
        return sharded
    is_large = sum(p.numel() for p in parameters) >= MIN_PARAMETERS
    return sharded if is_large and sharded.imbalance <= MAX_IMBALANCE else None


def assign_owners(sizes: list[int], workers: int) -> list[int]:
    """Return the owner of each parameter, from their numbers of elements: the largest first, to whichever has least."""
    load, owners = [0] * workers, [0] * len(sizes)
    for index in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        owner = min(range(workers), key=lambda w: (load[w], w))
        owners[index] = owner
        load[owner] += sizes[index]
    return owners


class ShardedMoments:
    """The division of one module's parameters among the workers."""

    def __init__(self, parameters: list[nn.Parameter], peers: Peers) -> None:
        self.parameters, self.peers = parameters, peers
        self.owners = assign_owners([p.numel() for p in parameters], peers.size)
        self.indices = [[i for i, owner in enumerate(self.owners) if owner == rank] for rank in range(peers.size)]
        self.own = [parameters[i] for i in self.indices[peers.rank]]
        sizes = [sum(parameters[i].numel() for i in indices) for indices in self.indices]
        self.width = max(sizes)  # elements exchanged per worker
        self.imbalance = self.width * peers.size / max(1, sum(sizes))

    def parts(self, blocks: list[Vector]) -> Tensor:
        """Return what to send to each worker [size, blocks, width + rest]: its gradients, then the rest of each block.

        blocks: vectors that begin with one gradient per parameter.
        """
        count = len(self.parameters)
        rest = sum(tensor.numel() for tensor in blocks[0][count:])
        out = blocks[0][0].new_zeros(self.peers.size, len(blocks), self.width + rest)
        for rank, indices in enumerate(self.indices):
            for block, vector in enumerate(blocks):
                pieces = [tensor.reshape(-1) for tensor in [*(vector[i] for i in indices), *vector[count:]]]
                torch.cat(pieces, out=out[rank, block, : sum(map(len, pieces))])
        return out

    def select_own(self, vector: Vector) -> Vector:
        """Return this worker's gradients of a vector that begins with one per parameter, and the rest of it."""
        return [vector[i] for i in self.indices[self.peers.rank]] + vector[len(self.parameters) :]

    def gather_norms(self, own: Tensor) -> Tensor:
        """Return one value per parameter [parameters] on every worker from those of the own parameters [own]."""
        most = max(map(len, self.indices))
        gathered = self.peers.all_gather(nn.functional.pad(own, (0, most - len(own)))).view(self.peers.size, most)
        norms = own.new_empty(len(self.parameters))
        for rank, indices in enumerate(self.indices):
            norms[indices] = gathered[rank, : len(indices)]
        return norms

    @torch.no_grad()
    def share_parameters(self) -> None:
        """Replace every parameter by its owner's."""
        flat = self.parameters[0].new_zeros(self.width)
        if self.own:
            own = torch.cat([p.reshape(-1) for p in self.own])
            flat[: len(own)] = own
        gathered = self.peers.all_gather(flat).view(self.peers.size, self.width)
        for rank, indices in enumerate(self.indices):
            if rank == self.peers.rank:
                continue
            start = 0
            for parameter in (self.parameters[i] for i in indices):
                piece = gathered[rank, start : start + parameter.numel()]
                parameter.copy_(piece.view(parameter.shape))
                start += parameter.numel()

    def forget_others(self, optimizer: Optimizer) -> None:
        """Drop the moments of the parameters that other workers own, as after the loading of a checkpoint."""
        for parameter, owner in zip(self.parameters, self.owners, strict=True):
            if owner != self.peers.rank:
                optimizer.state.pop(parameter, None)

    def gather_moments(self, optimizer: Optimizer) -> dict[Tensor, dict[str, Any]]:
        """Return the moments of the other workers' parameters on rank 0, and nothing elsewhere; all workers call it.

        Parameters follow one another, so that no other worker ever holds the moments of more than one of them.
        """
        moments: dict[Tensor, dict[str, Any]] = {}
        for parameter, owner in zip(self.parameters, self.owners, strict=True):
            if owner != 0:
                slots = optimizer.state.get(parameter, {}) if self.peers.rank == owner else None
                slots = self.peers.broadcast(slots and dict(slots), source=owner)
                if self.peers.rank == 0 and slots:
                    moments[parameter] = slots
        return moments
