"""Threads of matrix work."""

import threading

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from geoembed.heads.models.threads import in_parallel, one_thread


def threads_of_products():
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_one_thread_while_it_lasts():
    with threadpool_limits(2, user_api="blas"):
        before = threads_of_products()
        with one_thread():
            assert threads_of_products() == {1}
        assert threads_of_products() == before


def test_parts_are_shared_out_and_come_back_in_order():
    matrices = np.random.default_rng(0).normal(size=(20, 30, 30))
    with threadpool_limits(2, user_api="blas"):
        both = threading.Barrier(2, timeout=30)

        def meet(matrix):
            both.wait()
            assert threads_of_products() == {1}
            return np.linalg.inv(matrix)

        np.testing.assert_array_equal(in_parallel(meet, matrices), np.linalg.inv(matrices))


def test_an_error_in_a_part_is_raised():
    with pytest.raises(np.linalg.LinAlgError, match="Singular"):
        in_parallel(np.linalg.inv, np.zeros((2, 2, 2)))
