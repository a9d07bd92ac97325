"""The seed level of the bootstrap: how far the mean over a few seeds may be from that over all.

Shapes: S seeds, D replicates.

A replicate's deviation is ``sum_s w_s (x_s - mean(x))`` with random weights instead of counts (Owen
and Eckles, 2012), the same for all arms: ``w_s = g_s / sqrt(S (S - 1)) * sqrt((S - 1) / q)``, g_s
normal, q chi-square with S - 1 degrees of freedom. That is Student's t times the standard error.
Counts, that is seeds drawn from S with replacement, would give a variance too small by (S - 1) / S
and tails that are normal at best.

Teacher sets are a level above the seeds. Of three or more, the means of their seeds take the place
of x: drawing whole clusters is consistent where drawing single values is not (Field and Welsh,
2007). Of two, one degree of freedom would give intervals some four times as wide as those of many
sets. There the seeds stay the units, and the deviation is scaled by what the variance of the mean
is if a share ``rho`` of the variance of seeds is due to teacher sets. ``rho`` is drawn from its
posterior: prior density ``2 rho``, flat in the mean, ``1 / sigma`` in the standard deviation. The
intervals then hold the truth at least 95 times in 100 up to a rho of 0.8, where teacher sets spread
twice as much as the seeds of one set, and 91 to 94 times at 0.9.
``benchmarks/bootstrap_coverage.py`` prints such figures.

Sources:
    Field and Welsh (2007), Bootstrapping clustered data, J. R. Statist. Soc. B 69.
    Owen and Eckles (2012), Bootstrapping data arrays of arbitrary order, Ann. Appl. Stat. 6.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]

_RHO_GRID = (np.arange(100) + 0.5) / 100


def seed_deviations(
    points_S: Floats,
    teacher_sets: Sequence[int] | None,
    num_replicates: int,
    *,
    seed: int,
    stream: int = 0,
) -> Floats:
    """Return each replicate's deviation ``(D,)`` of the mean; zeros where there is one seed.

    Args:
        points_S: ``(S,)``, a value for each seed.
        teacher_sets: the teacher set of each seed; None, or all the same, where the seeds are
            independent (of each other, given that one set).
        num_replicates: D, an even number: every deviation stands there with both signs, at d
            and at D / 2 + d.
        seed: of the weights; the same seed gives the same ones to all arms.
        stream: another one gives weights that are independent of these.

    Raises:
        ValueError: an odd number of replicates.

    Example:
        >>> points_S = np.array([0.1, 0.2, 0.3])  # standard error 0.1 / sqrt(3)
        >>> deviations_D = seed_deviations(points_S, None, 100_000, seed=0)
        >>> high = np.quantile(deviations_D, 0.975) / (0.1 / np.sqrt(3))
        >>> round(float(high), 1)  # Student's t with 2 degrees of freedom has 4.3
        4.3
    """
    if num_replicates % 2:
        raise ValueError(f"{num_replicates} replicates: the number must be even.")
    sets_S = np.zeros(len(points_S), np.intp)
    if teacher_sets is not None:
        sets_S = np.unique(teacher_sets, return_inverse=True)[1]
    sizes_T = np.bincount(sets_S)
    units_S, factor_D = points_S, np.ones(1)
    if len(sizes_T) > 2:
        units_S = np.bincount(sets_S, weights=points_S) / sizes_T
        # The plain mean over seeds weighs larger sets more; where all are alike this is 1.
        factor_D *= np.sqrt(len(sizes_T) * (sizes_T**2).sum()) / sizes_T.sum()
    elif len(sizes_T) == 2:
        factor_D = _two_sets_factor(points_S, sets_S, num_replicates // 2, seed, stream)
    if len(units_S) < 2:
        return np.zeros(num_replicates)
    weights_DS = _weights(len(units_S), num_replicates // 2, seed, stream)
    half_D = factor_D * (weights_DS @ (units_S - units_S.mean()))
    return np.concatenate([half_D, -half_D])


@lru_cache(maxsize=8)
def _weights(num_units: int, num_replicates: int, seed: int, stream: int) -> Floats:
    rng = np.random.default_rng([seed, stream])
    freedom = num_units - 1
    normal_DS = rng.standard_normal((num_replicates, num_units))
    # One q from each of D equally likely ranges: an interval of few seeds hangs on the rare ones.
    ranges_D = (rng.permutation(num_replicates) + rng.random(num_replicates)) / num_replicates
    scale_D = np.sqrt(freedom / stats.chi2.ppf(ranges_D, freedom))
    weights_DS: Floats = normal_DS * scale_D[:, None] / np.sqrt(num_units * freedom)
    weights_DS.flags.writeable = False
    return weights_DS


def _two_sets_factor(
    points_S: Floats, sets_S: NDArray[np.intp], num_replicates: int, seed: int, stream: int
) -> Floats:
    """Return draws ``(D,)`` of the mean's standard error over that of independent seeds.

    The seeds' covariance is ``sigma^2 ((1 - rho) I + rho Z Z')``, Z saying which seed has which
    set. With V for the bracket, the marginal likelihood of rho is ``|V|^(-1/2)
    (1' V^-1 1)^(-1/2) rss^(-(S - 1) / 2)``, rss the weighted squares about the weighted mean.
    """
    centred_S = points_S - points_S.mean()
    total = float(np.square(centred_S).sum())
    if total == 0:
        return np.ones(num_replicates)
    num_seeds = len(points_S)
    sizes_T = np.bincount(sets_S)
    sums_T = np.bincount(sets_S, weights=centred_S)
    rho_K = _RHO_GRID
    spread_KT = 1 - rho_K[:, None] + rho_K[:, None] * sizes_T
    precision_K = (sizes_T / spread_KT).sum(axis=1)
    within_K = (total - rho_K * (sums_T**2 / spread_KT).sum(axis=1)) / (1 - rho_K)
    rss_K = within_K - (sums_T / spread_KT).sum(axis=1) ** 2 / precision_K
    rss_K = np.maximum(rss_K, 1e-12 * total)  # points that are equal but for rounding
    log_determinant_K = (num_seeds - len(sizes_T)) * np.log(1 - rho_K)
    log_determinant_K += np.log(spread_KT).sum(axis=1)
    log_posterior_K = np.log(rho_K) - 0.5 * (
        log_determinant_K + np.log(precision_K) + (num_seeds - 1) * np.log(rss_K)
    )
    posterior_K = np.exp(log_posterior_K - log_posterior_K.max())
    # The variance of the plain mean, over sigma^2 / S.
    inflation_K = 1 - rho_K + rho_K * (sizes_T**2).sum() / num_seeds
    factor_K = np.sqrt(inflation_K * rss_K / total)
    shares_K = np.cumsum(posterior_K)
    drawn_D = np.searchsorted(shares_K / shares_K[-1], _spread_out(num_replicates, seed, stream))
    factor_D: Floats = factor_K[drawn_D]
    return factor_D


@lru_cache(maxsize=8)
def _spread_out(num_replicates: int, seed: int, stream: int) -> Floats:
    """Return one value from the middle of each of D equal parts of (0, 1), in random order."""
    order_D = np.random.default_rng([seed, stream, 1]).permutation(num_replicates)
    values_D: Floats = (order_D + 0.5) / num_replicates
    values_D.flags.writeable = False
    return values_D
