"""The space that kernel models measure distances in: vectors about their mean, made narrower."""

from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from geoembed.errors import OptionError
from geoembed.heads.models.paths import Array, Rows, blocks
from geoembed.heads.models.threads import in_parallel
from geoembed.scalars import check_count, is_number

__all__ = ["KernelSpace", "check_kernel_parameters", "exponential_kernel", "kernel_between"]

# Rows whose distances give the unit of length, and that the principal directions are taken from.
_SAMPLE_ROWS: Final = 1_000
_DIRECTION_ROWS: Final = 4_000
# Kernel values that are worked on at a time by one core.
_CACHED_VALUES: Final = 2**19


@dataclass(frozen=True)
class KernelSpace:
    """Where distances are measured, and the length of the kernel there.

    Attributes
    ----------
    mean : array of shape (d,)
        Mean of the rows learned from.
    directions : array of shape (d, r) or None
        Principal directions that vectors are projected onto; None if they are not.
    length : float
        Length of the kernel, in units of the vectors.
    """

    mean: NDArray[Any]
    directions: NDArray[Any] | None
    length: float

    @classmethod
    def of(
        cls,
        X: Array,
        counted: Rows,
        components: int | None,
        length: float,
        random: np.random.RandomState,
    ) -> Self:
        """Learn the space of some rows of X; `length` in multiples of their median distance."""
        mean = X[counted].mean(axis=0, dtype=np.float64).astype(X.dtype)
        directions = None
        if components is not None and components < min(X.shape[1], len(counted)):
            some = counted
            if len(counted) > _DIRECTION_ROWS:
                some = random.choice(counted, _DIRECTION_ROWS, replace=False)
            # One power iteration: directions next to the principal ones hold distances as well.
            found = PCA(
                int(components), svd_solver="randomized", iterated_power=1, random_state=random
            ).fit(X[some])
            directions = np.ascontiguousarray(found.components_.T, dtype=X.dtype)
        plain = cls(mean, directions, 1.0)
        some = random.choice(counted, min(len(counted), _SAMPLE_ROWS), replace=False)
        return cls(mean, directions, _median_distance(plain.project(X[some])) * length)

    def project(self, X: Array) -> Array:
        """Return rows of X in this space, shape (n, r)."""
        if self.directions is None:
            return np.asarray(X - self.mean.astype(X.dtype, copy=False))
        out = np.empty((len(X), self.directions.shape[1]), dtype=X.dtype)
        for rows in blocks(len(X), X.shape[1]):
            out[rows] = (X[rows] - self.mean) @ self.directions
        return out

    def sums(self, X: Array, support: Array, coef: Array) -> Array:
        """Return the kernel of rows of X with the support, times weights (m, t): shape (n, t)."""
        coef = coef.astype(X.dtype, copy=False)
        out = np.empty((len(X), coef.shape[1]), dtype=X.dtype)

        def work(rows: slice) -> None:
            out[rows] = self.kernel(self.project(X[rows]), support) @ coef

        # A share of the time goes into roots and exponentials, which matrix libraries' own threads
        # leave to one core. What a core works on fits its cache.
        step = max(64, _CACHED_VALUES // len(support))
        in_parallel(work, [slice(at, at + step) for at in range(0, len(X), step)])
        return out

    def kernel(self, rows: Array, support: Array) -> Array:
        """Return the kernel of projected rows with each other, shape (n, m)."""
        return exponential_kernel(rows, support, self.length)


def exponential_kernel(rows: Array, support: Array, length: float) -> Array:
    """Return ``exp(-|x - x'| / length)`` of every row with every row of the support."""
    sizes = np.einsum("ij,ij->i", rows, rows)[:, None]
    squares = sizes + np.einsum("ij,ij->i", support, support)
    # What is left of a row less itself is rounding, and the root would make much of it.
    nothing = 16.0 * np.finfo(rows.dtype).eps * sizes
    squares -= 2.0 * (rows @ support.T)
    squares[squares < nothing] = 0.0
    np.sqrt(squares, out=squares)
    squares /= -length
    return np.asarray(np.exp(squares, out=squares), dtype=rows.dtype)


def kernel_between(support: Array, length: float) -> Array:
    """Return the kernel of landmarks with each other, float64, positive definite."""
    wide = support.astype(np.float64)
    between = exponential_kernel(wide, wide, length)
    # What rounding takes from it.
    between[np.diag_indices(len(wide))] = 1.0 + 1e-6
    return between


def check_kernel_parameters(length: Any, **counts: Any) -> None:
    """Check the parameters that kernel models share.

    Raises
    ------
    OptionError
        If `length` is no positive number, or a count no whole number of at least 1; ``components``
        may be None.
    """
    for name, value in counts.items():
        if not (name == "components" and value is None):
            check_count(name, value)
    if not is_number(length) or not 0 < length < np.inf:
        raise OptionError(f"length={length!r} is no positive number.")


def _median_distance(V: Array) -> float:
    """Return the median distance between different rows; 1 if all are one."""
    sample = V.astype(np.float64)
    squares = (sample**2).sum(axis=1)
    apart = squares[:, None] + squares - 2.0 * sample @ sample.T
    apart = apart[np.triu_indices(len(sample), 1)]
    apart = apart[apart > 1e-9 * squares.max(initial=0.0)]
    return float(np.sqrt(np.median(apart))) if len(apart) else 1.0
