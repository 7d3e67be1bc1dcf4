import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from serzoo.features.threads import single_threaded_blas


def blas_threads():
    np.ones((2, 2)) @ np.ones((2, 2))
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


@pytest.fixture(autouse=True)
def two_threads():
    with threadpool_limits(2, user_api="blas"):
        assert blas_threads() == {2}
        yield


def test_the_limit_is_one_thread_and_is_lifted_afterwards():
    with single_threaded_blas():
        assert blas_threads() == {1}
    assert blas_threads() == {2}


def test_users_may_overlap_in_any_order():
    first, second = single_threaded_blas(), single_threaded_blas()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert blas_threads() == {1}
    second.__exit__(None, None, None)
    assert blas_threads() == {2}


def test_an_error_lifts_the_limit():
    with pytest.raises(ValueError, match="no"), single_threaded_blas():
        raise ValueError("no")
    assert blas_threads() == {2}
