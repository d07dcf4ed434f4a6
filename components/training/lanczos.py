"""The Lanczos process: extreme eigenvalues of a symmetric matrix from its products with vectors (Lanczos 1950).

The tables are {"basis": [m, P], "alpha": [m - 1], "beta": [m - 1]}: orthonormal vectors, and the diagonals of the
tridiagonal matrix that the original becomes in their basis.
"""

from __future__ import annotations

import numpy as np

DISTINCT = 0.9  # share of the largest eigenvalue below which another one counts as smaller


def extend_basis(tables: dict[str, np.ndarray], image: np.ndarray) -> None:
    """Add a row to the tridiagonal matrix and the next basis vector, from `image` [P] = H q of the newest vector q.

    The new vector is made orthogonal to all earlier ones, twice, which is enough (Parlett 1998). If the space is
    exhausted, the next vector is zero, and `tridiagonal` leaves out all rows from there on.
    """
    basis = tables["basis"]
    alpha = float(basis[-1] @ image)
    rest = image - basis.T @ (basis @ image)
    rest -= basis.T @ (basis @ rest)
    beta = float(np.linalg.norm(rest))
    independent = beta > 1e-7 * max(1.0, float(np.linalg.norm(image)))
    tables["alpha"] = np.append(tables["alpha"], alpha)
    tables["beta"] = np.append(tables["beta"], beta if independent else 0.0)
    tables["basis"] = np.vstack([basis, rest / beta if independent else np.zeros_like(rest)])


def tridiagonal(tables: dict[str, np.ndarray]) -> np.ndarray:
    """Return the matrix [m, m] whose extreme eigenvalues approach those of the Hessian from inside."""
    size = len(tables["alpha"])
    exhausted = np.flatnonzero(tables["beta"] == 0.0)
    if len(exhausted):
        size = int(exhausted[0]) + 1
    beta = tables["beta"][: size - 1]
    return np.diag(tables["alpha"][:size]) + np.diag(beta, 1) + np.diag(beta, -1)


def eigenpair(tables: dict[str, np.ndarray], rank: int) -> tuple[float, np.ndarray]:
    """Return an eigenvalue and its unit vector [P]; rank: 0 for the smallest, -1 for the largest, -2 for the next."""
    matrix = tridiagonal(tables)
    values, vectors = np.linalg.eigh(matrix)
    direction = vectors[:, rank] @ tables["basis"][: len(matrix)]
    return float(values[rank]), direction / np.linalg.norm(direction)


def ritz_values(tables: dict[str, np.ndarray]) -> np.ndarray:
    """Return the estimates of the smallest and the largest eigenvalue after each product: [m, 2]."""
    matrix = tridiagonal(tables)
    return np.array([np.linalg.eigvalsh(matrix[:m, :m])[[0, -1]] for m in range(1, len(matrix) + 1)])


def second_rank(tables: dict[str, np.ndarray]) -> int:
    """Return the rank, for `eigenpair`, of the largest eigenvalue that is clearly below the largest; at least 0.

    Equal eigenvalues appear once each in exact arithmetic, and repeatedly after rounding.
    """
    values = np.linalg.eigvalsh(tridiagonal(tables))
    return int(max(0, np.flatnonzero(values < DISTINCT * values[-1]).max(initial=0)))
