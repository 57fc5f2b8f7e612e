"""Scores of hydrology, a number per site: RMSE, NSE, KGE and percent bias, in the units of the data.

All of them are functions of the same sums, so in a `torchmetrics.MetricCollection` they accumulate once. The sums add
up over batches and processes to what one pass over everything gives.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

from mptt.errors import MPTTError

# A standard deviation below this part of the mean is rounding: the resolution of float32.
_CONSTANT = torch.finfo(torch.float32).eps


class _Sums(NamedTuple):
    """What a metric adds up, each (sites,), in the order of the columns of the state.

    In float64 plain sums of squares keep enough digits: 365,000 days of air pressure, 101325 Pa with a deviation of 10,
    give NSE to 1e-7. (A mean of a million deviations would cost it the fifth digit.)
    """

    steps: Tensor
    lost: Tensor  # observed steps at which the prediction, or the observation itself, was not a finite number
    squared_error: Tensor
    sim: Tensor
    obs: Tensor
    sim_sim: Tensor
    obs_obs: Tensor
    sim_obs: Tensor

    @property
    def mean_sim(self) -> Tensor:
        return self.sim / self.steps

    @property
    def mean_obs(self) -> Tensor:
        return self.obs / self.steps

    @property
    def variance_sim(self) -> Tensor:
        return self._variance(self.sim_sim, self.mean_sim)

    @property
    def variance_obs(self) -> Tensor:
        return self._variance(self.obs_obs, self.mean_obs)

    @property
    def covariance(self) -> Tensor:
        return self.sim_obs / self.steps - self.mean_sim * self.mean_obs

    def _variance(self, squares: Tensor, mean: Tensor) -> Tensor:
        variance = squares / self.steps - mean.square()
        return torch.where(variance > (_CONSTANT * mean).square(), variance, 0.0)


class _SiteMetric(Metric):
    """Adds up, per site, what the scores of this file are made of; a subclass turns the sums into a score.

    Steps whose target is NaN are missing observations and are skipped. A prediction that is not finite where there is
    an observation, or an infinite observation, is a fault that no score should hide: that site's score is NaN.

    Args:
        num_sites: number of sites, at least 1; a row of a batch belongs to site 0..num_sites-1.

    Raises:
        MPTTError: num_sites under 1.
    """

    is_differentiable = False
    full_state_update = False
    sums: Tensor

    def __init__(self, num_sites: int = 1) -> None:
        super().__init__()
        if num_sites < 1:
            raise MPTTError(f"num_sites is a number of sites, at least 1; found {num_sites}.")
        self.num_sites = num_sites
        zeros = torch.zeros(num_sites, len(_Sums._fields), dtype=torch.float64)
        self.add_state("sums", zeros, dist_reduce_fx="sum")

    def update(
        self, prediction: Tensor, target: Tensor, site: Tensor | None = None, mask: Tensor | None = None
    ) -> None:
        """Take in a batch. Never waits for the device.

        Args:
            prediction: (B, ...) simulated values; all of a row belong to one site.
            target: (B, ...) observed values, NaN where there is none.
            site: (B,) integers, the site of each row; may be left out where there is one site.
            mask: (B, ...) bool, False for steps to leave out.

        Raises:
            MPTTError: unequal shapes, no batch dimension, sites missing, or of the wrong kind or range (the range is
                checked on the CPU only).
        """
        self._check(prediction, target, site, mask)
        sim, obs = _rows(prediction.detach()).double(), _rows(target.detach()).double()
        observed = ~obs.isnan()
        if mask is not None:
            observed &= _rows(mask)
        used = observed & sim.isfinite() & obs.isfinite()
        sim, obs = torch.where(used, sim, 0.0), torch.where(used, obs, 0.0)
        sums = _Sums(
            steps=used.sum(-1).double(),
            lost=(observed & ~used).sum(-1).double(),
            squared_error=(sim - obs).square().sum(-1),
            sim=sim.sum(-1),
            obs=obs.sum(-1),
            sim_sim=sim.square().sum(-1),
            obs_obs=obs.square().sum(-1),
            sim_obs=(sim * obs).sum(-1),
        )
        # A module cast to half precision takes its metrics along; sums need all their digits.
        self.sums = self.sums.double()
        if site is None:
            self.sums += torch.stack(sums, dim=-1).sum(0)
        else:
            self.sums.index_add_(0, site.to(self.sums.device), torch.stack(sums, dim=-1))

    def compute(self) -> Tensor:
        """The score of each site.

        Returns:
            (num_sites,) float64; torchmetrics makes it () where there is one site. NaN where the score is not defined.
        """
        sums = _Sums(*self.sums.double().unbind(-1))
        score = self._score(sums)
        return torch.where((sums.lost > 0) | (sums.steps == 0) | score.isinf(), torch.nan, score)

    def _score(self, sums: _Sums) -> Tensor:
        raise NotImplementedError

    def _check(self, prediction: Tensor, target: Tensor, site: Tensor | None, mask: Tensor | None) -> None:
        name = type(self).__name__
        shape = tuple(target.shape)
        if not shape or tuple(prediction.shape) != shape:
            raise MPTTError(
                f"{name} compares predictions and targets of one shape (batch, ...), found {tuple(prediction.shape)}"
                f" and {shape}."
            )
        if mask is not None and (mask.dtype != torch.bool or tuple(mask.shape) != shape):
            raise MPTTError(
                f"The mask of {name} is bool and shaped like the target {shape}, found {mask.dtype} of shape"
                f" {tuple(mask.shape)}."
            )
        if site is None:
            if self.num_sites > 1:
                raise MPTTError(
                    f"{name} keeps {self.num_sites} sites apart; pass site, the site of each of the {shape[0]} rows."
                )
            return
        if tuple(site.shape) != shape[:1] or site.dtype not in (torch.int64, torch.int32):
            raise MPTTError(
                f"site gives {name} one integer a row, shape {shape[:1]}, found {site.dtype} of shape"
                f" {tuple(site.shape)}."
            )
        if site.device.type == "cpu" and len(site) and (site.min() < 0 or site.max() >= self.num_sites):
            raise MPTTError(
                f"The sites of {name} are 0..{self.num_sites - 1}, found {int(site.min())}..{int(site.max())}."
                " Set num_sites to the number of sites in the data."
            )


class RMSE(_SiteMetric):
    r"""Root mean squared error, per site.

    .. math:: \sqrt{\frac{1}{n} \sum_t (s_t - o_t)^2}

    for simulated s and observed o. In the unit of the data, 0 and up, best 0. NaN for a site without observations.

    Args:
        num_sites: number of sites, at least 1.

    Example:
        >>> rmse = RMSE(num_sites=2)
        >>> simulated = torch.tensor([[1.0, 2.0, 3.0], [4.0, 9.0, 6.0]])
        >>> observed = torch.tensor([[1.0, 2.0, 6.0], [4.0, float("nan"), 6.0]])
        >>> rmse.update(simulated, observed, site=torch.tensor([0, 1]))
        >>> rmse.compute()
        tensor([1.7321, 0.0000], dtype=torch.float64)
    """

    higher_is_better = False

    def _score(self, sums: _Sums) -> Tensor:
        return (sums.squared_error / sums.steps).sqrt()


class NSE(_SiteMetric):
    r"""Nash-Sutcliffe efficiency, per site (Nash and Sutcliffe 1970, doi:10.1016/0022-1694(70)90255-6).

    .. math:: 1 - \frac{\sum_t (s_t - o_t)^2}{\sum_t (o_t - \bar o)^2}

    for simulated s and observed o. From minus infinity to 1, best 1; 0 is as good as the mean of the observations. NaN
    for a site without observations, or with constant ones (to float32's resolution: a standard deviation under 1.2e-7
    of the mean).

    Args:
        num_sites: number of sites, at least 1.

    Example:
        >>> nse = NSE()
        >>> nse.update(torch.tensor([[1.0, 2.0, 3.0, 6.0]]), torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
        >>> nse.compute()  # 1 - 4/5
        tensor(0.2000, dtype=torch.float64)
    """

    higher_is_better = True

    def _score(self, sums: _Sums) -> Tensor:
        return 1 - sums.squared_error / sums.steps / sums.variance_obs


class KGE(_SiteMetric):
    r"""Kling-Gupta efficiency, per site (Gupta et al. 2009, doi:10.1016/j.jhydrol.2009.08.003, equations 9 and 10).

    .. math:: 1 - \sqrt{(r - 1)^2 + (\sigma_s / \sigma_o - 1)^2 + (\bar s / \bar o - 1)^2}

    for simulated s and observed o, with r their correlation. From minus infinity to 1, best 1; the mean of the
    observations would reach 1 - sqrt(2) = -0.41, taking its correlation for 0. NaN for a site without observations,
    where observations or simulation are constant (r is not defined; to float32's resolution, as for `NSE`), and where
    observations have mean 0.

    Args:
        num_sites: number of sites, at least 1.

    Example:
        >>> kge = KGE()
        >>> kge.update(torch.tensor([[2.0, 4.0, 6.0]]), torch.tensor([[1.0, 2.0, 3.0]]))
        >>> kge.compute()  # r = 1, twice the spread, twice the mean: 1 - sqrt(0 + 1 + 1)
        tensor(-0.4142, dtype=torch.float64)
    """

    higher_is_better = True

    def _score(self, sums: _Sums) -> Tensor:
        variance_sim, variance_obs = sums.variance_sim, sums.variance_obs
        correlation = sums.covariance / (variance_sim * variance_obs).sqrt()
        spread = (variance_sim / variance_obs).sqrt()
        bias = sums.mean_sim / sums.mean_obs
        score = 1 - ((correlation - 1).square() + (spread - 1).square() + (bias - 1).square()).sqrt()
        return torch.where((variance_sim > 0) & (variance_obs > 0), score, torch.nan)


class PBIAS(_SiteMetric):
    r"""Percent bias, per site: positive where the simulation is too high.

    .. math:: 100 \frac{\sum_t (s_t - o_t)}{\sum_t o_t}

    for simulated s and observed o. Any number, best 0; +10 is a volume 10 % too large. Mind the sign: Moriasi et al.
    (2007, doi:10.13031/2013.23153) and hydrologists who follow them write o - s, positive where the
    simulation is too low. NaN for a site without observations, or where they add up to 0.

    Args:
        num_sites: number of sites, at least 1.

    Example:
        >>> pbias = PBIAS()
        >>> pbias.update(torch.tensor([[1.0, 2.0, 4.0]]), torch.tensor([[1.0, 2.0, 2.0]]))
        >>> pbias.compute()
        tensor(40., dtype=torch.float64)
    """

    higher_is_better = None

    def _score(self, sums: _Sums) -> Tensor:
        return 100 * (sums.sim - sums.obs) / sums.obs


def _rows(values: Tensor) -> Tensor:
    return values.flatten(1) if values.ndim > 1 else values.unsqueeze(1)
