from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gtdnet.report.curves import _ticks


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_ticks_hold_the_values(a: float, b: float) -> None:
    low, high = sorted((a, b))
    ticks = _ticks(low, high)
    assert 2 <= len(ticks) <= 8
    slack = 1e-6 * (ticks[-1] - ticks[0]) + 1e-9 * max(abs(a), abs(b))
    assert ticks[0] <= low + slack
    assert high - slack <= ticks[-1]
    assert np.allclose(np.diff(ticks), ticks[1] - ticks[0])
