import warnings

import numpy as np
import pytest
import torch
import xarray as xr

from mptt import MPTTError, MPTTWarning
from mptt.datamodules import SeriesDataModule
from mptt.datamodules.batching import batches as training

TIME = np.datetime64("2000-01-01", "s") + np.arange(22) * np.timedelta64(86400, "s")


def dataset(lengths=(14, 22), missing=()):
    """Sites whose input and target are the number of the step, plus 100 a site; `missing` (site, step)."""
    step = np.arange(max(lengths))
    code = np.stack([100.0 * site + step for site in range(len(lengths))])
    code[step >= np.array(lengths)[:, None]] = np.nan
    y = code.copy()
    for at in missing:
        y[at] = np.nan
    time = np.datetime64("2000-01-01", "s") + step * np.timedelta64(86400, "s")
    return xr.Dataset(
        {"x": (("site", "time"), code), "y": (("site", "time"), y)},
        {"site": ["a", "b", "c", "d"][: len(lengths)], "time": time},
    )


def module(source=None, **changes):
    """Training parts of 7 steps of site a and 11 of b."""
    arguments = {"split": (0.5, 0.25, 0.25), "window": 2, "stride": 2, "batch_size": 3, "seed": 0}
    return SeriesDataModule(
        dataset() if source is None else source, inputs=["x"], targets=["y"], **(arguments | changes)
    )


def physical(scaler, values):
    return scaler.inverse(values)[..., 0].round().int().tolist()


# Sequential


def test_sequential_batches_go_on_where_the_last_stopped():
    data = module(order="sequential")
    data.setup("fit")
    for _ in range(2):
        batches = list(data.train_dataloader())
        assert [batch["window"].tolist() for batch in batches] == [[0, 1, 2], [3, 4, 5], [6, 7]]
        assert [physical(data.input_scaler, batch["x"]) for batch in batches] == [
            [[0, 1], [2, 3], [4, 5]],
            [[100, 101], [102, 103], [104, 105]],
            [[106, 107], [108, 109]],
        ]
    assert data.windows.site.tolist() == [0, 0, 0, 1, 1, 1, 1, 1]
    assert data.windows.start.tolist() == [0, 2, 4, 0, 2, 4, 6, 8]


@pytest.mark.parametrize("order", ["sequential", "lanes"])
def test_disjoint_orders_need_a_stride_of_a_window(order):
    with pytest.raises(MPTTError, match=f'order="{order}" needs disjoint windows: stride = window = 2, found stride=1'):
        module(order=order, stride=1).setup("fit")


# Whole series


def test_whole_series_are_padded_at_the_end():
    data = module(dataset(missing=[(0, 2)]), order="series", window=366, stride=183)
    data.setup("fit")
    assert data.windows.site.tolist() == [0, 1]
    assert data.windows.start.tolist() == [0, 0]
    assert data.windows.length.tolist() == [7, 11]
    (batch,) = list(data.train_dataloader())
    assert batch["x"].shape == batch["y"].shape == batch["mask"].shape == (2, 11, 1)
    a, b = (batch["window"].tolist().index(site) for site in (0, 1))
    assert physical(data.input_scaler, batch["x"][a, :7]) == list(range(7))
    assert physical(data.target_scaler, batch["y"][a, [0, 1, 3, 4, 5, 6]]) == [0, 1, 3, 4, 5, 6]
    assert batch["mask"][a, :, 0].tolist() == [True, True, False, True, True, True, True] + [False] * 4
    assert (batch["x"][a, 7:] == 0).all()
    assert (batch["y"][a, [2, 7, 8, 9, 10]] == 0).all()
    assert physical(data.input_scaler, batch["x"][b]) == list(range(100, 111))
    assert batch["mask"][b].all()
    assert torch.isfinite(data.target_scaler.mean).all()


def test_whole_series_are_shuffled_each_epoch_and_padded_to_the_longest_of_their_batch():
    lengths = (14, 22, 6, 10)
    data = module(dataset(lengths), order="series", batch_size=1)
    data.setup("fit")
    loader = data.train_dataloader()
    orders = []
    for _ in range(6):
        batches = list(loader)
        orders.append(tuple(int(batch["window"]) for batch in batches))
        assert [batch["x"].shape[1] for batch in batches] == [lengths[site] // 2 for site in orders[-1]]
        assert all(batch["mask"].all() for batch in batches)
    assert {tuple(sorted(order)) for order in orders} == {(0, 1, 2, 3)}
    assert len(set(orders)) > 1


def test_a_batch_of_whole_series_is_a_copy():
    data = module(order="series")
    data.setup("fit")
    first, second = (next(iter(data.train_dataloader())) for _ in range(2))
    first["x"].zero_()
    first["y"].zero_()
    assert second["x"].any()
    assert next(iter(data.train_dataloader()))["y"].any()


def test_series_too_long_to_keep_all_states_are_refused(monkeypatch):
    assert training.LONGEST_SERIES == 50_000
    monkeypatch.setattr(training, "LONGEST_SERIES", 10)
    with pytest.raises(MPTTError, match=r"at most 10 steps each, found b \(11 steps\).*train_steps=10, or use another"):
        module(order="series").setup("fit")
    module(order="series", train_steps=10).setup("fit")


# The last steps of windows


def test_only_the_last_steps_of_training_windows_count():
    data = module(dataset(missing=[(0, 3)]), window=4, stride=3, predict_last_n=2, batch_size=9)
    data.setup("fit")
    (batch,) = list(data.train_dataloader())
    assert data.windows.start.tolist() == [0, 3, 0, 3, 6, 7]
    masks = batch["mask"][batch["window"].argsort()][..., 0]
    assert masks.tolist() == [[False, False, True, False]] + [[False, False, True, True]] * 5
    assert sum(int(one["mask"].sum()) for one in data.evaluation_dataloader("train")) == 7 + 11 - 1
    assert next(iter(data.test_dataloader()))["mask"].sum() == next(iter(data.test_dataloader()))["keep"].sum()


def test_all_steps_may_be_the_last():
    one, other = module(predict_last_n=2), module()
    for batch, twin in zip(one.train_dataloader(), other.train_dataloader(), strict=True):
        assert all(torch.equal(batch[name], twin[name]) for name in twin)


def test_last_steps_without_any_target_are_refused():
    odd = [(site, step) for site in (0, 1) for step in range(1, 22, 2)]
    module(dataset(missing=odd), order="sequential", predict_last_n=2).setup("fit")
    module(dataset(missing=odd), stride=1, predict_last_n=1).setup("fit")
    # Overlapping windows also end at the last step, 6 of site a and 10 of b; disjoint ones only at odd steps.
    with pytest.raises(MPTTError, match=r"target y has no value in the last 1 step\(s\) of any training window"):
        module(dataset(missing=odd), order="sequential", predict_last_n=1).setup("fit")


@pytest.mark.parametrize("value", [0, -1, 2.0, True])
def test_last_steps_are_a_number_of_steps(value):
    with pytest.raises(MPTTError, match="predict_last_n is a whole number, at least 1; found"):
        module(predict_last_n=value)


def test_last_steps_are_within_the_window():
    with pytest.raises(MPTTError, match="predict_last_n is at most the window of 2 steps; found 3"):
        module(predict_last_n=3)


def test_last_steps_of_whole_series_are_refused():
    with pytest.raises(MPTTError, match='order="series" trains on whole series, and predict_last_n=1 counts'):
        module(order="series", predict_last_n=1)


# The last steps of training parts


def test_only_the_last_training_steps_are_used():
    data, whole = module(train_steps=9), module()
    data.setup("fit")
    whole.setup("fit")
    assert data.parts["train"].begin.tolist() == [0, 2]
    assert data.parts["train"].length.tolist() == [7, 9]
    for part in ("validation", "test"):
        assert data.parts[part].begin.tolist() == whole.parts[part].begin.tolist()
        assert data.parts[part].length.tolist() == whole.parts[part].length.tolist()
    used = np.concatenate([np.arange(7), 100 + np.arange(2, 11)])
    np.testing.assert_allclose(data.input_scaler.mean, used.mean(), rtol=1e-6)
    np.testing.assert_allclose(data.target_scaler.scale, used.std(), rtol=1e-6)
    seen = {code for batch in data.train_dataloader() for code in np.ravel(physical(data.input_scaler, batch["x"]))}
    assert seen == set(used)
    walked = list(data.series_dataloader())
    kept = [code for batch in walked for code in data.input_scaler.inverse(batch["x"])[batch["keep"]].round().flatten()]
    assert sorted(kept) == sorted(used)
    table = data.predictions("train", [batch["y"] for batch in walked], walked)
    np.testing.assert_allclose(table["y"].values, table["y_observed"].values, atol=1e-4)
    assert int(table["y"].notnull().sum()) == 16


def test_target_before_the_used_training_steps_is_known():
    data = module(order="series", train_steps=2, lagged_target="step")
    data.setup("fit")  # without a warning: no part holds the first step of a record
    (batch,) = list(data.train_dataloader())
    lagged = physical(data.target_scaler, batch["x"][batch["window"].argsort()][..., -1:])
    assert lagged == [[4, 5], [108, 109]]


@pytest.mark.parametrize("value", [0, 1.5])
def test_training_steps_are_a_number_of_steps(value):
    with pytest.raises(MPTTError, match="train_steps is a whole number, at least 1; found"):
        module(train_steps=value)


# Lanes


def test_lanes_that_cannot_be_filled_are_said_once():
    data = module(order="lanes", batch_size=10)
    with pytest.warns(MPTTWarning) as caught:
        data.setup("fit")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data.setup("test")
        for _ in range(2):
            assert [batch["window"].tolist() for batch in data.train_dataloader()] == [list(range(8))]
    assert [str(one.message) for one in caught if issubclass(one.category, MPTTWarning)] == [
        'order="lanes" finds 8 windows for batch_size=10: 8 lane(s) of one window each, so no state is carried from'
        " batch to batch. Use a smaller batch_size or a shorter window."
    ]


@pytest.mark.parametrize("settings", [{"order": "lanes", "batch_size": 8}, {"order": "sequential", "batch_size": 10}])
def test_nothing_is_said_of_filled_lanes_nor_of_other_orders(settings):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        module(**settings).setup("fit")
