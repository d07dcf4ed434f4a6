"""What kind of critical point is it? Extreme eigenvalues of the Hessian by Lanczos, one product with it a step.

Notes: local minimum or saddle point. Training comes first (`descend` steps), then `products` products of the Hessian
with a vector (Pearlmutter 1994), each over the whole batch, from which the Lanczos process (with the vectors kept
orthogonal) finds the extreme eigenvalues; the remaining steps look along the eigenvector of the smallest one, farther
each time. Where that one is negative the point is a saddle, and that way the loss falls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import Refusal
from ..optimizers import sgd
from ..recipes.ranges import Count, Natural, NonNegative, Positive
from ..training.task import Batch, Shard, Spec, State, Task, Update
from .classification import Classification

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOOKS = 12  # on the way out to `reach`
ZERO = 1e-3  # an eigenvalue counts as negative below minus this share of the greatest


class CriticalPoints(Task):
    """Give it steps of the whole training split: `fit.batch` its size, `fit.epochs` at least descend + products.

    Products over different examples are refused: they are of no one matrix.

    model: as for Classification, without batch normalisation or dropout. scale: of the initial weights; 0 puts a
    network of sigmoids on a saddle. l2: weight of half the weights' squared norm in the loss. reach: how far it looks.
    normalise: as for Classification.
    """

    monitor: ClassVar[tuple[str, str]] = ("smallest", "min")
    inputs: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        model: Callable[..., nn.Module],
        optimizer: Callable = sgd,
        descend: Natural = 0,
        products: Count = 40,
        scale: NonNegative = 1.0,
        l2: NonNegative = 0.0,
        reach: Positive = 4.0,
        normalise: bool = True,
    ) -> None:
        self.classification = Classification(model, optimizer, normalise=normalise)
        self.descend, self.products, self.scale, self.l2, self.reach = descend, products, scale, l2, reach

    def setup(self, spec: Spec) -> State:
        state, self.examples = self.classification.setup(spec), spec.statistics["count"]
        with torch.no_grad():
            for parameter in state.modules["net"].parameters():
                parameter.mul_(self.scale)
        return state

    def step(self, state: State, update: Update) -> dict[str, Tensor]:
        """{loss, accuracy} while descending, then {smallest, largest} so far, then {ahead, behind}, losses."""
        if state.step < self.descend:
            return update("net", self.loss)
        if state.step < self.descend + self.products:
            return self.multiply(state, update)
        return self.look(state, update)

    def loss(self, state: State, shard: Shard) -> tuple[Tensor, dict[str, Tensor]]:
        loss, metrics = self.classification.loss(state, shard)
        if self.l2:
            weights = _parameters(state)
            loss = loss + self.l2 / 2 * torch.stack([p.square().sum() for p in weights]).sum()
        return loss, metrics

    # -------------------------------------------------------------------------------------- Lanczos

    def multiply(self, state: State, update: Update) -> dict[str, Tensor]:
        """One product, and with it one more row of the tridiagonal matrix; every worker does the same small sums."""
        tables, parameters = state.tables, _parameters(state)
        if "basis" not in tables:
            start = np.random.default_rng(update.seed).standard_normal(sum(p.numel() for p in parameters))
            tables |= {"basis": start[None] / np.linalg.norm(start), "alpha": np.zeros(0), "beta": np.zeros(0)}
        vector = _shaped(tables["basis"][-1], parameters)

        def product(state: State, shard: Shard) -> list[Tensor]:
            loss = self.loss(state, shard)[0]
            gradients = torch.autograd.grad(loss, parameters, create_graph=True)
            along = torch.stack([(g * v).sum() for g, v in zip(gradients, vector, strict=True)]).sum()
            found = torch.autograd.grad(along, parameters, materialize_grads=True)
            flat = [torch.cat([t.detach().reshape(-1) for t in values]) for values in (found, gradients)]
            return [*flat, shard.batch["row"].double().mean().float()[None]]

        image, gradient, row = (t.double().cpu().numpy() for t in update.mean(product))
        if not np.allclose(row, tables.setdefault("row", row), rtol=1e-6):
            raise Refusal(
                f"fit.batch: the products see different examples; set it to all {self.examples} of the training split"
                " (with tune.folds: to those that a fold leaves)"
            )
        extend(tables, image)
        tables["gradient_norm"] = np.array([np.linalg.norm(gradient)])
        values = np.linalg.eigvalsh(tridiagonal(tables))
        found = {"smallest": values[0], "largest": values[-1], "gradient_norm": tables["gradient_norm"][0]}
        return {name: torch.tensor(float(value)) for name, value in found.items()}

    def look(self, state: State, update: Update) -> dict[str, Tensor]:
        """The loss at the point itself, then on both sides of it, farther each time up to `reach`."""
        known = state.tables.get("looks", np.zeros((0, 3)))
        radius = self.reach * (min(len(known), LOOKS) / LOOKS) ** 2
        direction = _shaped(eigenpair(state.tables)[1], _parameters(state))
        losses = []
        for side in (1, -1) if radius else (0,):
            with moved(_parameters(state), direction, side * radius), torch.no_grad():
                losses.append(float(update.mean(lambda state, shard: [self.loss(state, shard)[0].detach()])[0]))
        state.tables["looks"] = np.vstack([known, [radius, losses[0], losses[-1]]])
        return {"ahead": torch.tensor(losses[0]), "behind": torch.tensor(losses[-1])}

    def finish(self, state: State, over: Callable[[Callable[[Batch], Any]], list[Any]]) -> None:
        """Moves the weights to the lowest place that was looked at: the escape."""
        looks = state.tables.get("looks")
        if looks is None or len(looks) < 2:
            return
        row, side = np.unravel_index(looks[:, 1:].argmin(), (len(looks), 2))
        distance = looks[row, 0] * (1 if side == 0 else -1)
        state.tables["escape"] = np.array([looks[0, 1], looks[row, 1 + side], distance])
        parameters = _parameters(state)
        with torch.no_grad():
            for parameter, way in zip(parameters, _shaped(eigenpair(state.tables)[1], parameters), strict=True):
                parameter.add_(way, alpha=float(distance))
        for name, average in state.averages.items():  # they are what is scored and exported
            average.load_state_dict(state.modules[name].state_dict())

    # -------------------------------------------------------------------------------------- results

    def predict(self, state: State, batch: Batch) -> dict[str, Tensor]:
        """Classification's, and what is known of the point, alike in each row."""
        said = self.classification.predict(state, batch)
        known = np.linalg.eigvalsh(tridiagonal(state.tables)) if "basis" in state.tables else np.zeros(1)
        told: dict[str, float] = {"smallest": float(known[0]), "largest": float(known[-1]), "fall": 0.0}
        if "escape" in state.tables:
            told["fall"] = float(state.tables["escape"][0] - state.tables["escape"][1])
        told["gradient_norm"] = float(state.tables.get("gradient_norm", [0.0])[0])
        rows = torch.ones(len(said["label"]), dtype=torch.float64, device=said["label"].device)
        return said | {name: rows * value for name, value in told.items()}

    def score(self, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> dict[str, float]:
        """{accuracy, loss} after the escape; {smallest, largest, gradient_norm} at the point, {fall} of the loss."""
        told = {name: float(predictions[name][0]) for name in ("smallest", "largest", "gradient_norm", "fall")}
        return {**self.classification.score(predictions, targets), **told}

    def tags(self, state: State, scores: dict[str, float]) -> dict[str, str]:
        saddle = scores["smallest"] < -ZERO * abs(scores["largest"])
        found = (
            f"eigenvalues {scores['smallest']:.3g} to {scores['largest']:.3g}, gradient {scores['gradient_norm']:.2g}"
        )
        tags = {"verdict": f"{'saddle' if saddle else 'minimum'}: {found}"}
        if "escape" in state.tables:
            before, after, distance = state.tables["escape"]
            tags["escape"] = (
                f"loss {before:.4f} -> {after:.4f}, {abs(distance):.3g} along the smallest eigenvalue's vector"
            )
        return tags

    def draw(
        self, state: State, predictions: dict[str, np.ndarray], targets: dict[str, Any]
    ) -> dict[str, Figure | str]:
        from ..drawings.spectrum import draw_eigenvalues, draw_loss_section

        if "basis" not in state.tables:
            return {}
        drawn: dict[str, Figure | str] = {"spectrum": draw_eigenvalues(ritz(state.tables))}
        if "looks" in state.tables and len(state.tables["looks"]) > 1:
            radius, ahead, behind = state.tables["looks"].T
            x, y = np.concatenate([-radius, radius]), np.concatenate([behind, ahead])
            order = np.argsort(x, kind="stable")
            drawn["section"] = draw_loss_section(x[order], y[order])
        return drawn


# ------------------------------------------------------------------------------------------------ the Lanczos process


def extend(tables: dict[str, np.ndarray], image: np.ndarray) -> None:
    """One step from `image` [P] = H q of the newest basis vector q: a row of T, and the next vector.

    The vectors are kept orthogonal to all before (twice is enough: Parlett 1998). Where the space is exhausted the
    next one is zero, and what follows adds eigenvalues of 0 that are left out by `tridiagonal`.
    """
    basis = tables["basis"]
    alpha = float(basis[-1] @ image)
    rest = image - basis.T @ (basis @ image)
    rest -= basis.T @ (basis @ rest)
    beta = float(np.linalg.norm(rest))
    fresh = beta > 1e-7 * max(1.0, float(np.linalg.norm(image)))
    tables["alpha"] = np.append(tables["alpha"], alpha)
    tables["beta"] = np.append(tables["beta"], beta if fresh else 0.0)
    tables["basis"] = np.vstack([basis, rest / beta if fresh else np.zeros_like(rest)])


def tridiagonal(tables: dict[str, np.ndarray]) -> np.ndarray:
    """T [m, m], whose eigenvalues approach the extreme ones of the Hessian from inside."""
    size = int(np.argmin(tables["beta"] != 0.0)) + 1 if (tables["beta"] == 0.0).any() else len(tables["alpha"])
    beta = tables["beta"][: size - 1]
    return np.diag(tables["alpha"][:size]) + np.diag(beta, 1) + np.diag(beta, -1)


def eigenpair(tables: dict[str, np.ndarray]) -> tuple[float, np.ndarray]:
    """The smallest eigenvalue and its unit vector [P]."""
    matrix = tridiagonal(tables)
    values, vectors = np.linalg.eigh(matrix)
    direction = vectors[:, 0] @ tables["basis"][: len(matrix)]
    return float(values[0]), direction / np.linalg.norm(direction)


def ritz(tables: dict[str, np.ndarray]) -> np.ndarray:
    """Smallest and largest eigenvalue known after each product: [m, 2]."""
    whole = tridiagonal(tables)
    return np.array([np.linalg.eigvalsh(whole[:m, :m])[[0, -1]] for m in range(1, len(whole) + 1)])


def _parameters(state: State) -> list[nn.Parameter]:
    return list(state.modules["net"].parameters())


def _shaped(flat: np.ndarray, parameters: list[nn.Parameter]) -> list[Tensor]:
    """[P] cut into the shapes of the parameters, on their device."""
    whole = torch.from_numpy(flat).to(parameters[0].device, parameters[0].dtype)
    pieces = whole.split([p.numel() for p in parameters])
    return [piece.view(p.shape) for piece, p in zip(pieces, parameters, strict=True)]


@contextmanager
def moved(parameters: list[nn.Parameter], direction: list[Tensor], distance: float) -> Iterator[None]:
    """The parameters displaced while the block runs, and afterwards the very bytes they were."""
    kept = [p.detach().clone() for p in parameters]
    with torch.no_grad():
        for parameter, way in zip(parameters, direction, strict=True):
            parameter.add_(way, alpha=distance)
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, value in zip(parameters, kept, strict=True):
                parameter.copy_(value)
