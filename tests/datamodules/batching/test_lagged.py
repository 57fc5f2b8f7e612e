import warnings

import numpy as np
import pytest
import torch
import xarray as xr

from mptt import MPTTError, MPTTWarning
from mptt.datamodules import SeriesDataModule
from mptt.datamodules.batching.lagged import lag_targets, last_observations
from mptt.datamodules.preparing.flat import FlatSeries
from mptt.datamodules.preparing.parts import PARTS

TIME = np.datetime64("2000-01-01", "s") + np.arange(11) * np.timedelta64(86400, "s")
MISSING = float("nan")

# Steps 2 to 8 of site a (train 2-4, validation 5, test 6-8), 0 to 10 of site b (train 0-4, validation 5-6, test 7-10).
FLOW = [
    [MISSING, MISSING, 2, 3, 4, MISSING, 6, 7, 8, MISSING, MISSING],
    [MISSING, MISSING, 12, 13, 14, 15, 16, 17, 18, 19, 20],
]
SNOW = [[MISSING, MISSING, *range(100, 107), MISSING, MISSING], list(range(200, 211))]
MEAN = 8.0  # of the flow in training: 2, 3, 4, 12, 13, 14
LAGGED = {  # of the flow; site, first step: of each step
    ("a", 2): [MEAN, 2, 3, 4, 4, 6, 7],
    ("b", 0): [MEAN, MEAN, MEAN, 12, 13, 14, 15, 16, 17, 18, 19],
}


def dataset():
    step = np.arange(11.0)
    rain = np.stack([np.where((step >= 2) & (step <= 8), step, np.nan), 50 + step])
    variables = {"rain": rain, "flow": np.array(FLOW), "snow": np.array(SNOW)}
    return xr.Dataset(
        {name: (("site", "time"), values) for name, values in variables.items()} | {"size": ("site", [1.0, 3.0])},
        {"site": ["a", "b"], "time": TIME},
    )


def module(source=None, **changes):
    arguments = {"targets": ["flow"], "split": (0.5, 0.2, 0.3), "window": 2, "stride": 1, "lagged_target": "step"}
    return SeriesDataModule(dataset() if source is None else source, inputs=["rain"], **(arguments | changes))


def quiet_setup(data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MPTTWarning)
        data.setup("fit")
    return data


def lags_by_step(data, loaders, columns=1):
    """The lagged targets that are kept, in physical units: {(site, step on the common axis): value}."""
    found = {}
    for part, loader in loaders.items():
        begin = dict(zip(data.parts[part].site.tolist(), data.parts[part].begin.tolist(), strict=True))
        for batch in loader:
            lagged = data.target_scaler.inverse(batch["x"][..., -columns:])
            for row, step in batch["keep"].nonzero().tolist():
                site = int(batch["site"][row])
                at = (data.sites[site], begin[site] + int(batch["start"][row]) + step)
                found[at] = lagged[row, step].tolist() if columns > 1 else float(lagged[row, step, 0])
    return found


# Values


@pytest.mark.parametrize("chunk", [3650, 2])
@pytest.mark.parametrize("evaluation", ["sequential", "independent", "conditional"])
def test_target_of_the_step_before_across_parts_with_gaps_filled(evaluation, chunk):
    data = quiet_setup(module(evaluation=evaluation, chunk=chunk))
    found = lags_by_step(data, {part: data.evaluation_dataloader(part) for part in PARTS})
    expected = {(site, first + nth): lag for (site, first), lags in LAGGED.items() for nth, lag in enumerate(lags)}
    assert found == pytest.approx(expected, abs=1e-5)


def test_target_before_the_first_step_of_a_stretch_is_held_through_it():
    data = quiet_setup(module(lagged_target="window", chunk=2))
    found = lags_by_step(data, {part: data.evaluation_dataloader(part) for part in PARTS})
    a = dict(zip(range(2, 9), [MEAN, MEAN, 3, 4, 4, 4, 7], strict=True))  # stretches at 2, 4 | 5 | 6, 8
    b = dict(zip(range(11), [MEAN, MEAN, MEAN, MEAN, 13, 14, 14, 16, 16, 18, 18], strict=True))  # 0, 2, 4 | 5 | 7, 9
    expected = {("a", step): lag for step, lag in a.items()} | {("b", step): lag for step, lag in b.items()}
    assert found == pytest.approx(expected, abs=1e-5)


def test_target_before_the_first_step_of_a_window_is_held_in_overlapping_evaluation():
    data = quiet_setup(module(lagged_target="window", evaluation="independent", window=3, evaluation_stride=1))
    batches = [batch for batch in data.test_dataloader() for _ in batch["site"]]
    lagged = torch.cat([batch["x"][..., -1] for batch in data.test_dataloader()])
    assert len(batches) == 3
    # Site a: steps 6-8; site b: 7-9 and 8-10.
    expected = torch.tensor([[4.0] * 3, [16.0] * 3, [17.0] * 3])
    torch.testing.assert_close(data.target_scaler.inverse(lagged.unsqueeze(2))[..., 0], expected)


@pytest.mark.parametrize(
    ("lagged_target", "expected"),
    [
        ("step", [[MEAN, 2], [2, 3], [MEAN, MEAN], [MEAN, MEAN], [MEAN, 12], [12, 13]]),
        ("window", [[MEAN, MEAN], [2, 2], [MEAN, MEAN], [MEAN, MEAN], [MEAN, MEAN], [12, 12]]),
    ],
)
@pytest.mark.parametrize("attributes", [[], ["size"]])
def test_training_windows_end_with_the_lagged_target(lagged_target, expected, attributes):
    data = quiet_setup(module(lagged_target=lagged_target, attributes=attributes))
    plain = quiet_setup(module(lagged_target="none", attributes=attributes))
    (batch,), (bare,) = list(data.train_dataloader()), list(plain.train_dataloader())
    order = batch["window"].argsort()
    torch.testing.assert_close(
        data.target_scaler.inverse(batch["x"][order][..., -1:])[..., 0], torch.tensor(expected, dtype=torch.float32)
    )
    assert torch.equal(batch["x"][order][..., :-1], bare["x"][bare["window"].argsort()])
    assert batch["x"].shape[2] == data.input_size == 2 + len(attributes)


def test_whole_training_series_end_with_the_lagged_target():
    step = quiet_setup(module(order="series", attributes=["size"]))
    window = quiet_setup(module(order="series", lagged_target="window", train_steps=1))
    (batch,) = list(step.train_dataloader())
    a = batch["window"].tolist().index(0)
    x = step.target_scaler.inverse(batch["x"][..., -1:])[..., 0]
    torch.testing.assert_close(x[a, :3], torch.tensor([MEAN, 2.0, 3.0]))
    assert (batch["x"][a, 3:] == 0).all()
    torch.testing.assert_close(x[1 - a], torch.tensor([MEAN, MEAN, MEAN, 12.0, 13.0]))
    (batch,) = list(window.train_dataloader())
    lagged = window.target_scaler.inverse(batch["x"][..., -1:]).flatten()
    torch.testing.assert_close(lagged[batch["window"].argsort()], torch.tensor([3.0, 13.0]))


def test_walk_along_the_training_series_carries_them():
    data = quiet_setup(module())
    found = lags_by_step(data, {"train": data.series_dataloader()})
    a = {("a", 2): MEAN, ("a", 3): 2, ("a", 4): 3}
    b = {("b", step): lag for step, lag in enumerate([MEAN, MEAN, MEAN, 12, 13])}
    assert found == pytest.approx(a | b, abs=1e-5)


def test_each_target_has_its_column_after_the_attributes():
    data = quiet_setup(module(targets=["snow", "flow"], attributes=["size"]))
    assert (data.lagged_columns, data.input_size, data.output_size) == (2, 4, 2)
    found = lags_by_step(data, {"test": data.test_dataloader()}, columns=2)
    assert found["a", 6] == pytest.approx([103, 4])
    assert found["a", 7] == pytest.approx([104, 6])
    assert found["b", 7] == pytest.approx([206, 16])
    batch = next(iter(data.test_dataloader()))
    size = data.attribute_scaler.inverse(batch["x"][..., 1:2])
    torch.testing.assert_close(size[:, 0, 0], torch.tensor([1.0, 3.0])[batch["site"]])


def test_no_column_by_default():
    data = quiet_setup(module(lagged_target="none"))
    assert (data.lagged_columns, data.input_size) == (0, 1)
    assert next(iter(data.test_dataloader()))["x"].shape[2] == 1


def test_lagged_targets_follow_the_scalers_of_a_checkpoint():
    other_source = dataset()
    other_source["flow"] = 10 * other_source["flow"] - 3
    state = quiet_setup(module(other_source)).state_dict()
    data = quiet_setup(module())
    before = lags_by_step(data, {"test": data.test_dataloader()})
    data.load_state_dict(state)
    assert float(data.target_scaler.mean) == pytest.approx(77)
    assert lags_by_step(data, {"test": data.test_dataloader()}) == pytest.approx(before, abs=1e-4)
    (batch,) = list(data.series_dataloader())
    b = batch["site"].tolist().index(1)
    scale = np.std([17, 27, 37, 117, 127, 137])
    np.testing.assert_allclose(batch["x"][b, :, -1], [0, 0, 0, (12 - 77) / scale, (13 - 77) / scale], rtol=1e-5)


@pytest.mark.parametrize("lagged_target", ["step", "window"])
def test_predictions_stand_where_they_stood(lagged_target):
    tables = []
    for setting in ("none", lagged_target):
        data = quiet_setup(module(lagged_target=setting, chunk=2))
        batches = list(data.test_dataloader())
        tables.append(data.predictions("test", [batch["y"] for batch in batches], batches))
    xr.testing.assert_identical(*tables)


def test_last_observations_are_those_of_a_walk():
    generator = np.random.default_rng(0)
    lengths = generator.integers(1, 9, 30)
    observed = torch.from_numpy(generator.random((lengths.sum(), 2)) < 0.4)
    targets = torch.randn(observed.shape, generator=torch.Generator().manual_seed(0)) * observed
    series = FlatSeries(
        torch.zeros(len(observed), 1), torch.empty(30, 0), targets, observed, lengths.cumsum() - lengths, 0 * lengths
    )
    expected, values = [], []
    for begin, length in zip(series.offset.tolist(), lengths.tolist(), strict=True):
        last = [-1, -1]
        for row in range(begin, begin + length):
            expected.append(list(last))
            values.append([float(targets[at, k]) if at >= 0 else 0.0 for k, at in enumerate(last)])
            last = [row if observed[row, k] else last[k] for k in range(2)]
    before = last_observations(series)
    assert before.tolist() == expected
    assert lag_targets(series, before).tolist() == values


# What is said


def test_filled_lags_are_said_once():
    data = module()
    with pytest.warns(MPTTWarning) as caught:
        data.setup("fit")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data.setup("test")
        list(data.train_dataloader())
        data.load_state_dict(data.state_dict())
    assert [str(one.message) for one in caught if issubclass(one.category, MPTTWarning)] == [
        "No value of flow in the validation part of 1 site(s), so they are predicted but not scored: a.",
        "The target of the step before is not observed at 5 of 18 steps, first at site a, 2000-01-03 00:00:00. The"
        " lagged target is the last observation before it in the site's record (1 steps) or, without one, the training"
        " mean (4 steps).",
    ]


def test_first_steps_of_records_alone_are_said_shortly():
    data = module(targets=["snow"])
    with pytest.warns(
        MPTTWarning,
        match=r"^No step comes before the first of 2 record\(s\): the lagged target there is the training mean.$",
    ):
        data.setup("fit")


@pytest.mark.parametrize(
    ("split", "targets"),
    [
        (
            {
                "train": ("2000-01-05", "2000-01-06"),
                "validation": ("2000-01-08", "2000-01-08"),
                "test": ("2000-01-09",) * 2,
            },
            "flow",
        ),
        (
            {
                "train": ("2000-01-04", "2000-01-06"),
                "validation": ("2000-01-07", "2000-01-07"),
                "test": ("2000-01-08",) * 2,
            },
            "snow",
        ),
    ],
    ids=["gaps outside the parts", "records that begin before them"],
)
def test_nothing_is_said_of_steps_outside_the_parts(split, targets):
    module(targets=[targets], split=split).setup("fit")


def test_unknown_word_is_refused():
    with pytest.raises(MPTTError, match="lagged_target is 'none' or 'step' or 'window'; found 'day'"):
        module(lagged_target="day")
