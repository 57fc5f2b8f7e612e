import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from mptt import MPTTError
from mptt.datamodules import SeriesDataModule


def module(lengths, **changes):
    """Sites with test parts of these lengths; input and target are the number of the step there, plus 100 a site."""
    step = np.arange(2 * max(lengths))
    code = np.stack([100.0 * site + step - length for site, length in enumerate(lengths)])
    code[step >= 2 * np.array(lengths)[:, None]] = np.nan
    time = np.datetime64("2000-01-01", "s") + step * np.timedelta64(86400, "s")
    names = [f"s{site}" for site in range(len(lengths))]
    dataset = xr.Dataset({"x": (("site", "time"), code), "y": (("site", "time"), code)}, {"site": names, "time": time})
    arguments = {"split": (0.25, 0.25, 0.5), "order": "series", "window": 4, "evaluation": "conditional"}
    return SeriesDataModule(dataset, inputs=["x"], targets=["y"], **(arguments | changes))


def rows(batches):
    """(site, first step, steps kept) of each row of each batch."""
    return [
        [
            (site, start, (start + np.flatnonzero(keep)).tolist())
            for site, start, keep in zip(
                batch["site"].tolist(), batch["start"].tolist(), batch["keep"].numpy(), strict=True
            )
        ]
        for batch in batches
    ]


def test_conditional_batches_hold_the_next_window_of_each_site():
    data = module([7, 11, 3], sites_at_once=2)
    batches = list(data.test_dataloader())
    assert rows(batches) == [
        [(1, 0, [0, 1, 2, 3]), (0, 0, [0, 1, 2, 3])],
        [(1, 2, [4, 5]), (0, 2, [4, 5])],
        [(1, 4, [6, 7]), (0, 3, [6])],
        [(1, 6, [8, 9])],
        [(1, 7, [10])],
        [(2, 0, [0, 1, 2])],
    ]
    code = data.input_scaler.inverse(batches[2]["x"])[..., 0].round().int().tolist()
    assert code == [[104, 105, 106, 107], [3, 4, 5, 6]]
    assert batches[2]["mask"][..., 0].tolist() == [[False, False, True, True], [False, False, False, True]]
    assert [batch["length"].tolist() for batch in batches] == [[4, 4], [4, 4], [4, 4], [4], [4], [3]]
    assert set(batches[0]) == {"x", "y", "mask", "keep", "site", "start", "length"}


def test_a_site_shorter_than_a_window_is_padded_beside_longer_ones():
    (first, second) = list(module([3, 6], window=5, evaluation_stride=5).test_dataloader())
    assert rows([first, second]) == [[(1, 0, [0, 1, 2, 3, 4]), (0, 0, [0, 1, 2])], [(1, 1, [5])]]
    assert first["length"].tolist() == [5, 3]
    assert first["mask"][1, :, 0].tolist() == [True, True, True, False, False]


def test_daily_sliding_scores_one_new_step_a_window():
    data = module([7, 5], evaluation="independent", evaluation_stride=1, batch_size=3, warmup=1)
    batches = list(data.test_dataloader())
    assert rows(batches) == [
        [(0, 0, [0, 1, 2, 3]), (0, 1, [4]), (0, 2, [5])],
        [(0, 3, [6]), (1, 0, [0, 1, 2, 3]), (1, 1, [4])],
    ]
    assert [batch["mask"][..., 0].int().tolist() for batch in batches] == [
        [[0, 1, 1, 1], [0, 0, 0, 1], [0, 0, 0, 1]],
        [[0, 0, 0, 1], [0, 1, 1, 1], [0, 0, 0, 1]],
    ]


def test_forty_years_of_daily_windows_score_each_day_once():
    days = 14_610
    batches = module([days], evaluation="independent", window=365, evaluation_stride=1).test_dataloader()
    scored = np.zeros(days, int)
    table = batches.dataset
    assert len(table.entry) == days - 364
    np.testing.assert_array_equal(table.start, np.arange(days - 364))
    np.testing.assert_array_equal(table.keep_from, np.r_[0, np.arange(365, days)])
    for batch in (table[nth] for nth in (0, len(table) - 1)):
        at = batch["start"].unsqueeze(1) + torch.arange(365)
        np.add.at(scored, at[batch["mask"][..., 0]].numpy(), 1)
    last = (days - 364) % 64
    assert np.flatnonzero(scored).tolist() == [*range(364 + 64), *range(days - last, days)]
    assert scored.max() == 1


@pytest.mark.parametrize(("window", "stride"), [(1, 1), (5, 2), (366, 183)])
def test_overlapping_windows_are_half_a_window_apart_by_default(window, stride):
    assert module([9], window=window).evaluation_stride == stride


@pytest.mark.parametrize("evaluation", ["independent", "conditional"])
@pytest.mark.parametrize("stride", [1, 3, 4])
def test_predictions_of_overlapping_windows_stand_at_their_dates(evaluation, stride):
    data = module([7, 11, 3], evaluation=evaluation, evaluation_stride=stride, sites_at_once=2, batch_size=2)
    batches = list(data.test_dataloader())
    # What is not kept must not be taken.
    values = [torch.where(batch["keep"].unsqueeze(2), batch["y"], torch.nan) for batch in batches]
    table = data.predictions("test", values, batches)
    np.testing.assert_allclose(table["y"].values, table["y_observed"].values, atol=1e-4)
    assert table["y"].notnull().sum("time").values.tolist() == [7, 11, 3]


@settings(max_examples=60)
@given(
    st.lists(st.integers(4, 25), min_size=1, max_size=5),
    st.integers(1, 12),
    st.data(),
    st.integers(1, 6),
    st.integers(0, 1),
)
def test_overlapping_windows_keep_every_step_exactly_once(lengths, window, data, at_once, warmup):
    stride = data.draw(st.integers(1, window))
    changes = {"window": window, "evaluation_stride": stride, "warmup": warmup}
    every = [(site, step) for site, length in enumerate(lengths) for step in range(length)]
    windows = {}
    for evaluation in ("independent", "conditional"):
        source = module(lengths, evaluation=evaluation, sites_at_once=at_once, batch_size=at_once, **changes)
        batches = rows(source.test_dataloader())
        assert sorted((site, step) for batch in batches for site, _, kept in batch for step in kept) == every
        assert max(map(len, batches)) <= at_once
        windows[evaluation] = sorted(row for batch in batches for row in batch)
        if evaluation == "conditional":
            for batch in batches:
                assert len({site for site, _, _ in batch}) == len(batch)
            for site in range(len(lengths)):
                starts = [start for batch in batches for one, start, _ in batch if one == site]
                assert starts == sorted(starts)
    assert windows["independent"] == windows["conditional"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0, "evaluation_stride is a whole number, at least 1; found 0"),
        (2.5, "evaluation_stride is a whole number, at least 1; found 2.5"),
        (5, "evaluation_stride is at most the window of 4 steps; found 5"),
    ],
)
def test_strides_that_leave_steps_out_are_refused(value, message):
    with pytest.raises(MPTTError, match=message):
        module([9], evaluation_stride=value)


def test_unknown_evaluation_is_refused():
    with pytest.raises(MPTTError, match="evaluation is 'sequential' or 'independent' or 'conditional'; found 'daily'"):
        module([9], evaluation="daily")
