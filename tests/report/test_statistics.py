from __future__ import annotations

import numpy as np
import pytest

from attnbench.report.statistics import summarise


@pytest.mark.parametrize("n", [2, 3, 17])
def test_agrees_with_numpy(n: int) -> None:
    values = np.random.default_rng(n).normal(30, 2, n)
    found = summarise(values.tolist())
    assert found.n == n
    assert found.mean == pytest.approx(values.mean(), rel=1e-12)
    assert found.std == pytest.approx(values.std(ddof=1), rel=1e-12)


def test_one_value_tells_of_no_spread() -> None:
    found = summarise([31.0])
    assert (found.mean, found.std, found.n) == (31.0, None, 1)


def test_no_value_has_no_mean() -> None:
    with pytest.raises(ValueError, match="at least one"):
        summarise([])
