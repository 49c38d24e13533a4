import pytest

from shared.schedules import cosine, grl_ramp, multi_step, poly, warm_up


def test_schedules():
    assert poly(0, 100) == 1.0
    assert poly(50, 100) == pytest.approx(0.5**0.9)
    assert poly(100, 100) == poly(150, 100) == 0.0
    assert [warm_up(s, 4) for s in (0, 1, 4, 9)] == [0.0, 0.25, 1.0, 1.0]
    assert warm_up(0, 0) == 1.0
    assert [multi_step(s, (10, 20)) for s in (9, 10, 20)] == [1.0, 0.1, pytest.approx(0.01)]
    assert [cosine(s, 6, 0.4) for s in (0, 2, 3, 6)] == pytest.approx([1.0, 0.85, 0.7, 0.4])
    assert cosine(9, 6, 0.4) == 0.4
    assert {cosine(s, 6, 1.0) for s in range(9)} == {1.0}
    assert grl_ramp(0, 10) == 0.0
    assert grl_ramp(5, 10) == pytest.approx(0.9866143)
    assert grl_ramp(99, 10) == grl_ramp(10, 10)
