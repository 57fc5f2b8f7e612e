import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics import MetricCollection

from mptt import MPTTError
from mptt.metrics import KGE, NSE, PBIAS, RMSE

METRICS = [RMSE, NSE, KGE, PBIAS]
NAN = float("nan")


def scores_by_hand(simulated, observed):
    """The four scores of one site from the textbook formulas, by two passes in long double."""
    there = ~np.isnan(observed)
    s, o = simulated[there].astype(np.longdouble), observed[there].astype(np.longdouble)
    error = s - o
    s_anomaly, o_anomaly = s - s.mean(), o - o.mean()
    nse = 1 - (error**2).sum() / (o_anomaly**2).sum()
    r = (s_anomaly * o_anomaly).sum() / np.sqrt((s_anomaly**2).sum() * (o_anomaly**2).sum())
    alpha, beta = s.std() / o.std(), s.mean() / o.mean()
    kge = 1 - np.sqrt((r - 1) ** 2 + (alpha - 1) ** 2 + (beta - 1) ** 2)
    return {"RMSE": np.sqrt((error**2).mean()), "NSE": nse, "KGE": kge, "PBIAS": 100 * error.sum() / o.sum()}


def collection(num_sites=1):
    return MetricCollection([metric(num_sites) for metric in METRICS])


def batch_of_sites(seed, rows=12, steps=7, sites=3):
    """Rows of several sites, each site at least twice, a third of the observations missing."""
    rng = np.random.default_rng(seed)
    site = rng.permutation(np.arange(rows) % sites)
    observed = rng.gamma(2.0, 3.0, (rows, steps))
    simulated = observed + rng.normal(0.5, 1.5, (rows, steps))
    observed[rng.random((rows, steps)) < 0.3] = np.nan
    return torch.from_numpy(simulated).float(), torch.from_numpy(observed).float(), torch.from_numpy(site)


def assert_scores(metrics, simulated, observed, site, tolerance=1e-6):
    simulated, observed = simulated.numpy().astype(float), observed.numpy().astype(float)
    for name, score in metrics.compute().items():
        score = score.reshape(-1)
        expected = [
            scores_by_hand(simulated[site == number].ravel(), observed[site == number].ravel())[name]
            for number in range(len(score))
        ]
        np.testing.assert_allclose(
            score.numpy(), np.array(expected, float), rtol=tolerance, atol=tolerance, err_msg=name
        )


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), parts=st.integers(1, 12))
def test_scores_are_the_textbook_ones_however_rows_come_in_batches(seed, parts):
    simulated, observed, site = batch_of_sites(seed)
    metrics = collection(num_sites=3)
    for rows in np.array_split(np.random.default_rng(seed).permutation(len(site)), parts):
        metrics.update(simulated[rows], observed[rows], site=site[rows])
    assert_scores(metrics, simulated, observed, site.numpy())


@settings(max_examples=25, deadline=None)
@given(
    values=st.lists(
        st.tuples(st.floats(-1e3, 1e3, width=32), st.one_of(st.just(NAN), st.floats(-1e3, 1e3, width=32))),
        min_size=1,
        max_size=30,
    )
)
def test_rmse_and_percent_bias_of_any_numbers(values):
    simulated, observed = torch.tensor(values, dtype=torch.float64).unbind(1)
    rmse, pbias = RMSE(), PBIAS()
    for metric in (rmse, pbias):
        metric.update(simulated, observed)
    there = ~observed.isnan()
    error = (simulated - observed)[there].numpy()
    if not there.any():
        assert rmse.compute().isnan()
        assert pbias.compute().isnan()
        return
    assert rmse.compute().item() == pytest.approx(np.sqrt((error**2).mean()), abs=1e-9)
    total = observed[there].sum().item()
    if abs(total) > 1e-3:
        assert pbias.compute().item() == pytest.approx(100 * error.sum() / total, rel=1e-9, abs=1e-6)


@pytest.mark.parametrize(("offset", "spread"), [(600.0, 20.0), (101_325.0, 10.0), (-1e5, 10.0), (4096.5, 1.0)])
@pytest.mark.parametrize("row", [1, 366, 365_000])
def test_large_offsets_cost_no_digits(offset, spread, row):
    rng = np.random.default_rng(7)
    observed = offset + spread * rng.standard_normal(365_000)
    simulated = observed + 0.7 * spread * rng.standard_normal(365_000)
    observed[::11] = np.nan
    metrics = collection()
    for start in range(0, len(observed), 40_000 if row < 365_000 else 365_000):
        stop = start + 40_000 if row < 365_000 else None
        of_batch = [torch.from_numpy(values[start:stop]) for values in (simulated, observed)]
        rows = max(len(of_batch[0]) // row, 1)
        metrics.update(*(values[: rows * row].reshape(rows, row) for values in of_batch))
        rest = [values[rows * row :] for values in of_batch]
        if len(rest[0]):
            metrics.update(*(values.unsqueeze(0) for values in rest))
    expected = scores_by_hand(simulated, observed)
    for name, score in metrics.compute().items():
        assert score.item() == pytest.approx(float(expected[name]), abs=1e-6), name


def test_sums_of_two_processes_add_up_to_one():
    simulated, observed, site = batch_of_sites(3)
    for metric in METRICS:
        first, second, whole = metric(3), metric(3), metric(3)
        first.update(simulated[:5], observed[:5], site=site[:5])
        second.update(simulated[5:], observed[5:], site=site[5:])
        whole.update(simulated, observed, site=site)
        added = metric(3)
        added.update(simulated[:0], observed[:0], site=site[:0])
        added.sums = first.sums + second.sums
        torch.testing.assert_close(added.compute(), whole.compute(), rtol=1e-12, atol=1e-12)
        assert all(reduction is not None for reduction in first._reductions.values())
        first.merge_state(second)
        torch.testing.assert_close(first.compute(), whole.compute(), rtol=1e-12, atol=1e-12)


def test_collection_accumulates_once():
    metrics = collection(3)
    simulated, observed, site = batch_of_sites(4)
    metrics.update(simulated, observed, site=site)
    assert list(metrics.compute_groups.values()) == [["RMSE", "NSE", "KGE", "PBIAS"]]
    assert len({metric.sums.data_ptr() for metric in metrics.values(copy_state=False)}) == 1


def test_collection_accumulates_once_after_a_broken_first_batch():
    metrics = collection()
    metrics.update(torch.tensor([[NAN, 1.0]]), torch.tensor([[1.0, 2.0]]))
    assert len(metrics.compute_groups) == 1


def test_forward_gives_the_score_of_the_batch_and_adds_to_the_total():
    simulated, observed, site = batch_of_sites(5)
    metric, of_second = NSE(3), NSE(3)
    metric(simulated[:6], observed[:6], site=site[:6])
    of_second.update(simulated[6:], observed[6:], site=site[6:])
    torch.testing.assert_close(metric(simulated[6:], observed[6:], site=site[6:]), of_second.compute(), equal_nan=True)
    whole = NSE(3)
    whole.update(simulated, observed, site=site)
    torch.testing.assert_close(metric.compute(), whole.compute())


def test_perfect_prediction():
    observed = torch.tensor([[0.1, 0.7, NAN, 2.3], [5.0, 4.4, 0.3, NAN]])
    metrics = collection()
    metrics.update(observed.nan_to_num(8.0), observed)
    scores = {name: score.item() for name, score in metrics.compute().items()}
    assert scores == pytest.approx({"RMSE": 0, "NSE": 1, "KGE": 1, "PBIAS": 0}, abs=1e-12)
    assert scores["RMSE"] == scores["PBIAS"] == 0
    assert scores["NSE"] == 1


def test_mean_of_observations_has_efficiency_0():
    nse = NSE()
    nse.update(torch.full((1, 4), 2.5), torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
    assert nse.compute().item() == 0


def test_percent_bias_is_positive_where_the_simulation_is_too_high():
    pbias = PBIAS()
    pbias.update(torch.tensor([[11.0, 22.0]]), torch.tensor([[10.0, 20.0]]))
    assert pbias.compute().item() == pytest.approx(10)


@pytest.mark.parametrize("fault", [NAN, float("inf"), -float("inf")])
@pytest.mark.parametrize("metric", METRICS)
def test_a_prediction_that_is_not_finite_spoils_its_site_only(metric, fault):
    simulated, observed, site = batch_of_sites(6)
    of_all = metric(3)
    of_all.update(simulated, observed, site=site)
    row, step = (~observed.isnan() & (site == 1).unsqueeze(1)).nonzero()[0]
    simulated[row, step] = fault
    scores = metric(3)
    scores.update(simulated, observed, site=site)
    assert scores.compute()[1].isnan()
    assert torch.equal(scores.compute()[[0, 2]], of_all.compute()[[0, 2]])


@pytest.mark.parametrize("metric", METRICS)
def test_a_nan_prediction_where_nothing_is_observed_or_masked_does_no_harm(metric):
    simulated, observed, site = batch_of_sites(8)
    mask = torch.rand(observed.shape, generator=torch.Generator().manual_seed(0)) < 0.8
    by_mask, by_nan = metric(3), metric(3)
    by_nan.update(simulated, observed.where(mask, NAN), site=site)
    by_mask.update(simulated.where(mask & ~observed.isnan(), NAN), observed, site=site, mask=mask)
    assert torch.equal(by_mask.compute(), by_nan.compute())
    assert not by_mask.compute().isnan().any()


@pytest.mark.parametrize("metric", METRICS)
def test_an_infinite_observation_spoils_its_site(metric):
    score = metric()
    score.update(torch.tensor([[1.0, 2.0, 2.5]]), torch.tensor([[1.0, float("inf"), 2.0]]))
    assert score.compute().isnan()


@pytest.mark.parametrize("metric", METRICS)
def test_a_site_without_observations_has_no_score(metric):
    score = metric(3)
    score.update(
        torch.tensor([[1.0, 2.0, 4.0], [1.0, 2.0, 3.0]]),
        torch.tensor([[1.0, 2.0, 3.0], [NAN, NAN, NAN]]),
        site=torch.tensor([2, 0]),
    )
    assert score.compute().isnan().tolist() == [True, True, False]


@pytest.mark.parametrize("constant", [0.0, 0.1, 1 / 3, 4097 / 8192, 600.3, -101_325.7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("metric", [NSE, KGE])
def test_constant_observations_have_no_efficiency(metric, dtype, constant):
    score = metric()
    rng = torch.Generator().manual_seed(1)
    for steps in (1, 3, 100, 7, 366):
        score.update(constant + torch.randn(50, steps, generator=rng), torch.full((50, steps), constant, dtype=dtype))
    assert score.compute().isnan()


def test_a_constant_simulation_has_no_kling_gupta_efficiency():
    rng = torch.Generator().manual_seed(1)
    for constant in (0.0, 0.1, 55.5):
        kge = KGE()
        for steps in (1, 3, 100, 7, 366):
            kge.update(
                torch.full((50, steps), constant, dtype=torch.float64), 600 + 20 * torch.randn(50, steps, generator=rng)
            )
        assert kge.compute().isnan()


def test_scores_whose_divisor_is_0_are_nan():
    simulated, observed = torch.tensor([[0.0, 3.0]]), torch.tensor([[-1.0, 1.0]])
    for metric, defined in ((PBIAS(), False), (KGE(), False), (NSE(), True)):
        metric.update(simulated, observed)
        assert metric.compute().isfinite() == defined


@pytest.mark.parametrize("shape", [(6,), (6, 4), (6, 4, 2)])
def test_any_shape_behind_the_batch(shape):
    rng = torch.Generator().manual_seed(2)
    simulated, observed = torch.randn(shape, generator=rng), torch.randn(shape, generator=rng)
    site = torch.tensor([0, 1, 0, 1, 1, 0])
    metrics = collection(2)
    metrics.update(simulated, observed, site=site)
    assert_scores(metrics, simulated, observed, site.numpy())


def test_gradients_do_not_enter():
    metric = RMSE()
    simulated = torch.ones(2, 3, requires_grad=True)
    metric(simulated, torch.zeros(2, 3))
    assert not metric.sums.requires_grad


def test_inputs_are_left_alone():
    simulated, observed, site = batch_of_sites(9)
    before = copy.deepcopy((simulated, observed, site))
    mask = torch.ones_like(observed, dtype=torch.bool)
    collection(3).update(simulated, observed, site=site, mask=mask)
    for now, then in zip((simulated, observed, site), before, strict=True):
        torch.testing.assert_close(now, then, rtol=0, atol=0, equal_nan=True)
    assert mask.all()


def test_sums_keep_their_digits_in_a_module_of_half_precision():
    module = torch.nn.Module()
    module.metric = RMSE()
    module.to(torch.bfloat16)
    for _ in range(2):
        module.metric.update(torch.full((1, 1000), 3.0, dtype=torch.bfloat16), torch.zeros(1, 1000))
        module.metric.update(torch.zeros(1, 1), torch.zeros(1, 1))
        assert module.metric.sums.dtype == torch.float64
        assert module.metric.compute().item() == pytest.approx(3 * np.sqrt(1000 / 1001), rel=1e-12)
        module.metric.reset()


def test_state_is_float64_sums():
    for metric in METRICS:
        for name, reduction in metric(4)._reductions.items():
            assert getattr(metric(4), name).dtype == torch.float64
            assert reduction(torch.tensor([[1.0, 2.0], [3.0, 4.0]])).tolist() == [4, 6]


ONES = torch.ones(2, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((ONES, torch.ones(3, 2)), r"RMSE compares .* one shape .* found \(2, 3\) and \(3, 2\)"),
        ((torch.ones(()), torch.ones(())), r"one shape \(batch, \.\.\.\), found \(\) and \(\)"),
        ((ONES, ONES), "RMSE keeps 4 sites apart; pass site, the site of each of the 2 rows"),
        ((ONES, ONES, torch.tensor([0, 1, 2])), r"one integer a row, shape \(2,\), found torch.int64 of shape \(3,\)"),
        ((ONES, ONES, torch.tensor([0.0, 1.0])), "found torch.float32"),
        ((ONES, ONES, torch.tensor([0, 4])), r"The sites of RMSE are 0\.\.3, found 0\.\.4"),
        ((ONES, ONES, torch.tensor([-1, 2])), r"found -1\.\.2"),
        ((ONES, ONES, torch.tensor([0, 1]), ONES), "mask of RMSE is bool .* found torch.float32"),
        ((ONES, ONES, torch.tensor([0, 1]), torch.ones(2, dtype=torch.bool)), r"found torch.bool of shape \(2,\)"),
    ],
)
def test_bad_batches_are_refused_and_leave_the_sums_alone(arguments, message):
    metric = RMSE(num_sites=4)
    with pytest.raises(MPTTError, match=message):
        metric.update(*arguments)
    assert not metric.sums.any()


def test_bad_number_of_sites_is_refused():
    with pytest.raises(MPTTError, match="at least 1; found 0"):
        NSE(num_sites=0)
