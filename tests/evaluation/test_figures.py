import math

import numpy as np

from cpsd.evaluation.figures import figure, figures


def test_six_digits_are_kept_however_small_the_value() -> None:
    assert figure(0.000123456789) == 0.000123457
    assert figure(2.0) == 2.0


def test_what_is_not_defined_is_null() -> None:
    assert figure(math.nan) is None
    assert figures(np.array([1.0, np.nan])) == [1.0, None]
