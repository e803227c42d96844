"""Threads of matrix work: one where more wait for each other, ours where parts are independent."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import cache
from typing import Any, TypeVar

from threadpoolctl import ThreadpoolController

__all__ = ["in_parallel", "one_thread"]

Part = TypeVar("Part")
Result = TypeVar("Result")


def one_thread() -> AbstractContextManager[Any]:
    """Have decompositions done by one thread.

    They synchronise their threads so often that any other busy process stalls them: with one on
    two cores, 145 Cholesky factors of 394 rows took 38 s by two threads and 0.3 s by one, and the
    eigenvectors of 1,969 rows 21 s and 3 s. Products of large matrices do not suffer so.

    Examples
    --------
    >>> import numpy as np
    >>> with one_thread():
    ...     np.linalg.cholesky(np.eye(1))
    array([[1.]])
    """
    return _controller().limit(limits=1, user_api="blas")  # type: ignore[no-any-return]


def in_parallel(work: Callable[[Part], Result], parts: Iterable[Part]) -> list[Result]:
    """Do independent parts by as many threads as matrix products may use, each part by one.

    Parameters
    ----------
    work : callable
        Whose time goes into calls that let other threads run, such as matrix products.
    parts : iterable
        What it is called with, one after the other.

    Returns
    -------
    list
        Results, in order.

    Examples
    --------
    >>> in_parallel(abs, [-1, 2])
    [1, 2]
    """
    allowed = [pool["num_threads"] for pool in _controller().info() if pool["user_api"] == "blas"]
    with one_thread(), ThreadPoolExecutor(max(allowed, default=1)) as pool:
        return list(pool.map(work, parts))


@cache
def _controller() -> Any:
    # It knows only the libraries that are loaded: numpy's, and after this scipy's own.
    import scipy.linalg  # noqa: F401

    return ThreadpoolController()
