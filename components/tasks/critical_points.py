"""Classification of critical points: extreme eigenvalues of the Hessian by the Lanczos process (notes: saddle points).

The steps have up to four phases. First, `descend` steps train the network. Then, `products` steps each multiply the
Hessian by a vector (Pearlmutter 1994) over the entire batch; the Lanczos process with full reorthogonalisation turns
them into the extreme eigenvalues. `surface` steps each measure a row of the loss in the plane of the two largest
distinct eigenvalues. The remaining steps probe the loss along the eigenvector of the smallest eigenvalue, at growing
distances. If that eigenvalue is negative, the point is a saddle, and the loss falls in that direction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..optimizers import sgd
from ..recipes.ranges import Count, Natural, NonNegative, Positive
from ..training.lanczos import eigenpair, extend_basis, ritz_values, second_rank, tridiagonal
from ..training.task import Batch, Shard, Spec, State, Task, Update
from .classification import Classification, refuse_noisy_layers
from .row_facts import read_facts, repeat_facts, zero_facts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Probes on each side until the distance `reach`.
PROBES = 12
# A point is critical if the best step along its gradient that the largest curvature permits lowers the loss by less
# than this (in nats). A loss that no longer falls proves nothing: the steps may be too large or too small.
CRITICAL = 1e-3
# Rise of the loss, along the second largest eigenvalue's vector, that the drawn part of the surface covers (in nats).
RISE = 2.0
# An eigenvalue counts as negative if it is below minus this fraction of the largest.
ZERO = 1e-3
FACTS = ("smallest", "largest", "gradient_norm", "fall")


class CriticalPoints(Task):
    """Training of a classifier until a critical point, and the eigenvalues of the Hessian there.

    Every step covers the entire training split (`fit.batch: all`), because products over different examples would
    belong to different matrices. Set `fit.epochs` to at least descend + products.

    model: as for Classification, without batch normalisation or dropout. scale: factor on the initial weights; 0 starts
    a network of sigmoids on a saddle. l2: weight of half the squared norm of the weights in the loss. reach: largest
    distance that is probed. surface: points per side of the drawn part of the surface. normalise, criterion: as for
    Classification.
    """

    monitor: ClassVar[tuple[str, str]] = ("smallest", "min")
    inputs: ClassVar[tuple[str, ...]] = ()
    full_batch: ClassVar[bool] = True

    def __init__(
        self,
        model: Callable[..., nn.Module],
        optimizer: Callable[..., Optimizer] = sgd,
        descend: Natural = 0,
        products: Count = 40,
        scale: NonNegative = 1.0,
        l2: NonNegative = 0.0,
        reach: Positive = 4.0,
        surface: Natural = 0,
        normalise: bool = True,
        criterion: Literal["cross_entropy", "mse"] = "cross_entropy",
    ) -> None:
        self.classification = Classification(model, optimizer, normalise=normalise, criterion=criterion)
        self.descend = descend
        self.products = products
        self.scale = scale
        self.l2 = l2
        self.reach = reach
        self.surface = surface

    def setup(self, spec: Spec) -> State:
        """Build the classifier, its weights multiplied by `scale`; Refusal if its loss has no Hessian."""
        state = self.classification.setup(spec)
        refuse_noisy_layers(state.modules["net"], "CriticalPoints")
        with torch.no_grad():
            for parameter in state.modules["net"].parameters():
                parameter.mul_(self.scale)
        return state

    def objective(self) -> str | None:
        """Return "loss", the cross-entropy, if no penalty is added to it."""
        return None if self.l2 else self.classification.objective()

    def step(self, state: State, update: Update) -> dict[str, Tensor]:
        """Return the metrics of the current phase.

        Descent: {loss, accuracy}. Products: {smallest, largest, gradient_norm}. Surface: {level}, a row's mean loss.
        Probes: the losses {ahead, behind}.
        """
        if state.step < self.descend:
            return update("net", self.loss)
        if state.step < self.descend + self.products:
            return self._lanczos_step(state, update)
        if state.step < self.descend + self.products + self.surface:
            return self._measure_surface(state, update)
        return self._probe(state, update)

    def loss(self, state: State, shard: Shard) -> tuple[Tensor, dict[str, Tensor]]:
        """Return Classification's loss and metrics, with the penalty `l2` added to the loss."""
        loss, metrics = self.classification.loss(state, shard)
        if self.l2:
            weights = _parameters(state)
            loss = loss + self.l2 / 2 * torch.stack([p.square().sum() for p in weights]).sum()
        return loss, metrics

    # -------------------------------------------------------------------------------------- Lanczos

    def _lanczos_step(self, state: State, update: Update) -> dict[str, Tensor]:
        """Multiply the newest basis vector by the Hessian and add a row to the tridiagonal matrix.

        Only the product is shared between workers; each of them repeats the small sums.
        """
        tables = state.tables
        parameters = _parameters(state)
        if "basis" not in tables:
            start = np.random.default_rng(update.seed).standard_normal(sum(p.numel() for p in parameters))
            tables |= {"basis": start[None] / np.linalg.norm(start), "alpha": np.zeros(0), "beta": np.zeros(0)}
        vector = _split_vector(tables["basis"][-1], parameters)

        def multiply_hessian(state: State, shard: Shard) -> list[Tensor]:
            loss = self.loss(state, shard)[0]
            gradients = torch.autograd.grad(loss, parameters, create_graph=True)
            along = torch.stack([(g * v).sum() for g, v in zip(gradients, vector, strict=True)]).sum()
            product = torch.autograd.grad(along, parameters, materialize_grads=True)
            return [torch.cat([t.detach().reshape(-1) for t in tensors]) for tensors in (product, gradients)]

        image, gradient = (t.double().cpu().numpy() for t in update.mean(multiply_hessian))
        extend_basis(tables, image)
        tables["gradient_norm"] = np.array([np.linalg.norm(gradient)])
        values = np.linalg.eigvalsh(tridiagonal(tables))
        metrics = {"smallest": values[0], "largest": values[-1], "gradient_norm": tables["gradient_norm"][0]}
        return {name: torch.tensor(float(value)) for name, value in metrics.items()}

    def _measure_surface(self, state: State, update: Update) -> dict[str, Tensor]:
        """Measure the loss in one row of a square grid, centred on the point.

        Across a row it moves along the largest eigenvalue's vector, from row to row along the second largest one's.
        """
        rows = state.tables.get("surface", np.zeros((0, self.surface)))
        parameters = _parameters(state)
        across, up = (
            _split_vector(eigenpair(state.tables, rank)[1], parameters) for rank in (-1, second_rank(state.tables))
        )
        distances = surface_distances(state.tables, self.surface)
        start = [distances[len(rows)] * piece for piece in up]

        def measure(state: State, shard: Shard) -> list[Tensor]:
            losses = []
            for distance in distances:
                with displaced(parameters, [s + distance * piece for s, piece in zip(start, across, strict=True)], 1.0):
                    losses.append(self.loss(state, shard)[0].detach())
            return [torch.stack(losses)]

        with torch.no_grad():
            row = update.mean(measure)[0].double().cpu().numpy()
        state.tables["surface"] = np.vstack([rows, row])
        return {"level": torch.tensor(float(row.mean()))}

    def _probe(self, state: State, update: Update) -> dict[str, Tensor]:
        """Measure the loss at the point itself, then on both sides of it at growing distances up to `reach`."""
        probes = state.tables.get("looks", np.zeros((0, 3)))
        radius = self.reach * (min(len(probes), PROBES) / PROBES) ** 2
        direction = _split_vector(eigenpair(state.tables, 0)[1], _parameters(state))
        losses = []
        for side in (1, -1) if radius else (0,):
            with displaced(_parameters(state), direction, side * radius), torch.no_grad():
                losses.append(float(update.mean(lambda state, shard: [self.loss(state, shard)[0].detach()])[0]))
        state.tables["looks"] = np.vstack([probes, [radius, losses[0], losses[-1]]])
        return {"ahead": torch.tensor(losses[0]), "behind": torch.tensor(losses[-1])}

    def finish(self, state: State, over: Callable[[Callable[[Batch], Any]], list[Any]]) -> None:
        """Move the weights to the probe with the lowest loss: the escape from the point."""
        probes = state.tables.get("looks")
        if probes is None or len(probes) < 2:
            return
        row, side = np.unravel_index(probes[:, 1:].argmin(), (len(probes), 2))
        distance = probes[row, 0] * (1 if side == 0 else -1)
        state.tables["escape"] = np.array([probes[0, 1], probes[row, 1 + side], distance])
        parameters = _parameters(state)
        with torch.no_grad():
            direction = _split_vector(eigenpair(state.tables, 0)[1], parameters)
            for parameter, piece in zip(parameters, direction, strict=True):
                parameter.add_(piece, alpha=float(distance))
        # Moving averages must move too, because they are scored and exported in place of the modules.
        for name, average in state.averages.items():
            average.load_state_dict(state.modules[name].state_dict())

    # -------------------------------------------------------------------------------------- results

    def predict(self, state: State, batch: Batch) -> dict[str, Tensor]:
        """Return Classification's predictions, and the facts about the point repeated in each row."""
        predictions = self.classification.predict(state, batch)
        eigenvalues = np.linalg.eigvalsh(tridiagonal(state.tables)) if "basis" in state.tables else np.zeros(1)
        facts: dict[str, float] = {"smallest": float(eigenvalues[0]), "largest": float(eigenvalues[-1]), "fall": 0.0}
        if "escape" in state.tables:
            facts["fall"] = float(state.tables["escape"][0] - state.tables["escape"][1])
        facts["gradient_norm"] = float(state.tables.get("gradient_norm", [0.0])[0])
        return repeat_facts(predictions, facts)

    def score(self, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> dict[str, float]:
        """Return Classification's scores after the escape, smallest, largest and gradient_norm at the point, and fall.

        fall: decrease of the loss from the point to the lowest probe.
        """
        return {**self.classification.score(predictions, targets), **read_facts(predictions, FACTS)}

    def constant(self, train: dict[str, Any], count: int) -> dict[str, np.ndarray]:
        """Return Classification's constant answer, with zeros for the facts about a point."""
        return self.classification.constant(train, count) | zero_facts(FACTS, count)

    def tags(self, state: State, scores: dict[str, float]) -> dict[str, str]:
        """Return the verdict (saddle, minimum or not critical) with its figures, and the escape, if there was one."""
        products = len(state.tables.get("alpha", ()))
        if products < self.products:
            return {"verdict": f"none: {products} of {self.products} products are done; raise fit.epochs"}
        verdict = "saddle" if scores["smallest"] < -ZERO * abs(scores["largest"]) else "minimum"
        if scores["gradient_norm"] ** 2 > 2 * CRITICAL * max(scores["largest"], 0.0):
            verdict = "not a critical point"
        figures = (
            f"eigenvalues {scores['smallest']:.3g} to {scores['largest']:.3g}, gradient {scores['gradient_norm']:.2g}"
        )
        tags = {"verdict": f"{verdict}: {figures}"}
        if "escape" in state.tables:
            before, after, distance = state.tables["escape"]
            tags["escape"] = (
                f"loss {before:.4f} -> {after:.4f}, {abs(distance):.3g} along the smallest eigenvalue's vector"
            )
        return tags

    def draw(
        self, state: State, predictions: dict[str, np.ndarray], targets: dict[str, Any]
    ) -> dict[str, Figure | str]:
        """Draw the eigenvalues after each product, and the loss along the smallest one's vector."""
        from ..drawings.spectrum import draw_eigenvalues, draw_loss_section, draw_surface

        if "basis" not in state.tables:
            return {}
        drawn: dict[str, Figure | str] = {"spectrum": draw_eigenvalues(ritz_values(state.tables))}
        if len(state.tables.get("surface", [])) == self.surface > 1:  # a run may end before the last row
            largest, second = (eigenpair(state.tables, rank)[0] for rank in (-1, second_rank(state.tables)))
            distances = surface_distances(state.tables, self.surface)
            drawn["surface"] = draw_surface(state.tables["surface"], distances, largest, second)
        if "looks" in state.tables and len(state.tables["looks"]) > 1:
            radius, ahead, behind = state.tables["looks"].T
            distance = np.concatenate([-radius, radius])
            loss = np.concatenate([behind, ahead])
            order = np.argsort(distance, kind="stable")
            drawn["section"] = draw_loss_section(distance[order], loss[order])
        return drawn


def surface_distances(tables: dict[str, np.ndarray], count: int) -> np.ndarray:
    """Return `count` signed distances: at the last one, the second largest eigenvalue alone raises the loss by RISE."""
    second = eigenpair(tables, second_rank(tables))[0]
    half = np.sqrt(2 * RISE / max(second, 1e-12))
    return np.linspace(-half, half, count)


def _parameters(state: State) -> list[nn.Parameter]:
    return list(state.modules["net"].parameters())


def _split_vector(vector: np.ndarray, parameters: list[nn.Parameter]) -> list[Tensor]:
    """Split a vector [P] into tensors with the shapes, device and type of the parameters."""
    flat = torch.from_numpy(vector).to(parameters[0].device, parameters[0].dtype)
    pieces = flat.split([p.numel() for p in parameters])
    return [piece.view(p.shape) for piece, p in zip(pieces, parameters, strict=True)]


@contextmanager
def displaced(parameters: list[nn.Parameter], direction: list[Tensor], distance: float) -> Iterator[None]:
    """Displace the parameters while the block runs, and restore their exact bytes afterwards."""
    originals = [p.detach().clone() for p in parameters]
    with torch.no_grad():
        for parameter, piece in zip(parameters, direction, strict=True):
            parameter.add_(piece, alpha=distance)
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, value in zip(parameters, originals, strict=True):
                parameter.copy_(value)
