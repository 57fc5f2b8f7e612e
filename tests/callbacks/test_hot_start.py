"""Evaluation that goes on from exported states is the evaluation of the whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import cftime
import numpy as np
import pytest
import torch
import xarray as xr
from handmade import FEATURES, SITES, TABLE, Regressor, flat, loader, quiet_trainer, seeded, series, shuffles
from pytorch_lightning.utilities import CombinedLoader
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from mptt import MPTTError, MPTTWarning, Timeline, WindowIndex
from mptt.callbacks import LearnedInitialStateCallback, MPTTCallback, StatefulCallback, open_states

DAYS = np.arange("2000-02-20", "2000-04-01", dtype="datetime64[D]").astype("datetime64[s]")
NAMES = ["upper", "lower"]


class Batches(Dataset[Any]):
    """Ready batches of steps `begin .. end` of some sites, with or without a timeline."""

    def __init__(self, batches: list[Any], timeline: Timeline | None) -> None:
        self.batches, self.timeline = batches, timeline

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Any:
        return dict(self.batches[index])


def span(
    begin: int | dict[int, int],
    end: int | dict[int, int],
    chunk: int = 5,
    sites: Sequence[int] = (0, 1),
    timeline: Timeline | None = None,
    count_from: int = 0,
) -> DataLoader[Any]:
    """Steps begin to end of each site, in chunks; `start` counts from `count_from`."""
    low = {site: begin[site] if isinstance(begin, dict) else begin for site in sites}
    high = {site: min(end[site] if isinstance(end, dict) else end, SITES[site]) for site in sites}
    data, batches = series(), []
    for nth in range(-(-max(high[site] - low[site] for site in sites) // chunk)):
        start = {site: low[site] + nth * chunk for site in sites}
        going = [site for site in sites if start[site] < high[site]]
        length = [min(chunk, high[site] - start[site]) for site in going]
        x, y = torch.full((len(going), max(length), FEATURES), 7.0), torch.full((len(going), max(length), 1), torch.nan)
        for row, (site, steps) in enumerate(zip(going, length, strict=True)):
            x[row, :steps], y[row, :steps] = (one[start[site] : start[site] + steps] for one in data[site])
        where = {"site": going, "start": [start[site] - count_from for site in going], "length": length}
        batches.append({"x": x, "y": y, **{key: torch.tensor(values) for key, values in where.items()}})
    return DataLoader(Batches(batches, timeline), batch_size=None)


def predicted(callback: Any, module: Any, data: DataLoader[Any]) -> dict[int, Tensor]:
    outputs = quiet_trainer([callback]).predict(module, data)
    found: dict[int, list[Tensor]] = {}
    for batch, output in zip(data.dataset.batches, outputs, strict=True):  # type: ignore[attr-defined]
        output = output["prediction"] if isinstance(output, dict) else output
        for row, (site, length) in enumerate(zip(batch["site"].tolist(), batch["length"].tolist(), strict=True)):
            found.setdefault(site, []).append(output[row, :length])
    return {site: torch.cat(pieces) for site, pieces in found.items()}


def core(make: Callable[[], nn.Module]) -> type[Regressor]:
    class Other(Regressor):
        def __init__(self) -> None:
            super().__init__()
            self.gru = make()
            self.head = nn.LazyLinear(1)
            self(torch.zeros(1, 2, FEATURES))

    return Other


class Two(Regressor):
    """Two recurrent layers, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.LSTM(FEATURES, 5, batch_first=True)
        self.upper = nn.GRU(5, 4, num_layers=2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.upper(self.gru(x)[0])[0])


class Explicit(Regressor):
    """A core of one's own: a leaky sum."""

    state_size = 4

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.Linear(FEATURES, 4)

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> Any:
        state, states = batch["h0"], []
        for x in self.gru(batch["x"]).unbind(1):
            state = torch.tanh(0.9 * state + x)
            states.append(state)
        return {"prediction": self.head(torch.stack(states, 1)), "states": torch.stack(states, 1)}


MODULES: dict[str, Callable[[], Any]] = {
    "gru": Regressor,
    "rnn": core(lambda: nn.RNN(FEATURES, 4, batch_first=True)),
    "lstm": core(lambda: nn.LSTM(FEATURES, 4, num_layers=2, proj_size=3, batch_first=True)),
    "deep": core(lambda: nn.GRU(FEATURES, 4, num_layers=3, batch_first=True)),
    "two": Two,
    "explicit": Explicit,
}


def rnn_of(name: str) -> Any:
    return ["gru", "upper"] if name == "two" else None


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("ending", [".nc", ".safetensors"])
@pytest.mark.parametrize("timeline", [None, Timeline(NAMES, DAYS)], ids=["steps", "dates"])
def test_two_halves_are_the_whole(name: str, ending: str, timeline: Any, tmp_path: Path) -> None:
    if ending == ".safetensors":
        pytest.importorskip("safetensors")
    module, path, rnn = seeded(MODULES[name]), tmp_path / f"states{ending}", rnn_of(name)
    whole = predicted(StatefulCallback(training=False, rnn=rnn), module, span(0, 99, timeline=timeline))
    first = StatefulCallback(training=False, rnn=rnn)
    one = predicted(first, module, span(0, 10, timeline=timeline))
    first.save_states(path)
    second = StatefulCallback(training=False, rnn=rnn, initial_states=path)
    other = predicted(second, module, span(10, 99, timeline=timeline))
    for site in SITES:
        assert torch.equal(torch.cat([one[site], other[site]]), whole[site])
    cold = predicted(StatefulCallback(training=False, rnn=rnn), module, span(10, 99, timeline=timeline))
    assert (cold[0] - other[0]).abs().max() > 1e-3, "it matters"


@pytest.mark.parametrize("make", [MPTTCallback, lambda **how: StatefulCallback(training=False, **how)])
@pytest.mark.parametrize("verb", ["validate", "test"])
def test_metrics_of_the_second_half_are_those_of_the_whole(make: Any, verb: str, tmp_path: Path) -> None:
    class Squares(Regressor):
        def loss(self, batch: dict[str, Tensor]) -> Tensor:
            error = (self(batch["x"]) - batch["y"]).square()
            self.total = getattr(self, "total", 0.0) + float(error.nansum())
            return error.nansum()

    totals = []
    for pieces in ([(0, 99)], [(0, 10), (10, 99)]):
        module, states = seeded(Squares), None
        for begin, end in pieces:
            callback = make(initial_states=states)
            getattr(quiet_trainer([callback]), verb)(module, span(begin, end), verbose=False)
            states = callback.states()
        totals.append(module.total)
    assert totals[0] == pytest.approx(totals[1], rel=1e-6)


def test_the_exported_state_is_the_layers_own_with_its_date() -> None:
    module, callback = seeded(MODULES["lstm"]), StatefulCallback(training=False)
    predicted(callback, module, span(0, 17, timeline=Timeline(NAMES, DAYS, begin=[0, 3])))
    states = callback.states()
    for site, (name, steps) in enumerate(zip(NAMES, (17, 15), strict=True)):
        with torch.no_grad():
            _, hidden = module.gru(series()[site][0][None, :steps])
        assert torch.allclose(torch.from_numpy(states["state"].sel(site=name).values), flat(hidden)[0], atol=1e-6)
        assert states["time"].sel(site=name) == DAYS[steps - 1 + 3 * site]
    assert dict(states.sizes) == {"site": 2, "unit": 14}
    assert states["core"].values.tolist() == ["gru"] * 14
    assert states["layer"].values.tolist() == [0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1]
    assert "".join(states["part"].values) == "hhhhhhcccccccc"
    assert states.attrs["calendar"] == "standard"
    assert states.attrs["step_seconds"].tolist() == [86400, 86400]
    assert {"weights", "mptt_version"} <= set(states.attrs)


@pytest.mark.parametrize("ending", [".nc", ".safetensors"])
@pytest.mark.parametrize("dated", [True, False])
def test_both_formats_come_back_as_they_were(ending: str, dated: bool, tmp_path: Path) -> None:
    if ending == ".safetensors":
        pytest.importorskip("safetensors")
    callback, path = StatefulCallback(training=False), tmp_path / "deeper" / f"states{ending}"
    module = seeded(Regressor)
    predicted(callback, module, span(0, 10, timeline=Timeline(NAMES, DAYS) if dated else None))
    callback.save_states(path)
    xr.testing.assert_equal(open_states(path), callback.states())
    back, written = open_states(path).attrs, callback.states().attrs
    assert {key: back[key] for key in ("weights",)} == {key: written[key] for key in ("weights",)}
    assert [one.name for one in path.parent.iterdir()] == [path.name], "nothing half-written is left"


def test_netcdf_of_states_is_read_by_xarray_as_it_is(tmp_path: Path) -> None:
    callback = StatefulCallback(training=False)
    predicted(callback, seeded(Regressor), span(0, 10, timeline=Timeline(NAMES, DAYS)))
    callback.save_states(tmp_path / "s.nc")
    with xr.open_dataset(tmp_path / "s.nc") as states:
        assert (states["time"].sel(site="upper") == np.datetime64("2000-02-29")).all()


def test_sites_are_found_by_name_in_any_order_and_number() -> None:
    module, first = seeded(Regressor), StatefulCallback(training=False)
    whole = predicted(StatefulCallback(training=False), module, span(0, 99))
    predicted(first, module, span(0, 10, timeline=Timeline(NAMES, DAYS)))
    # Here "upper", whose data are those of number 0, is number 1, and there is a third.
    renamed = span(10, 99, sites=(1, 0), timeline=Timeline(["lower", "upper", "new"], DAYS))
    for batch in renamed.dataset.batches:  # type: ignore[attr-defined]
        batch["site"] = 1 - batch["site"]
    other = predicted(StatefulCallback(training=False, initial_states=first.states()), module, renamed)
    assert torch.equal(other[1], whole[0][10:])
    assert torch.equal(other[0], whole[1][10:])


def test_sites_that_end_at_different_dates_go_on_from_their_own() -> None:
    module, first, timeline = seeded(Regressor), StatefulCallback(training=False), Timeline(NAMES, DAYS)
    whole = predicted(StatefulCallback(training=False), module, span(0, 99, chunk=1))
    stops = {0: 9, 1: 4}
    predicted(first, module, span(0, stops, chunk=1, timeline=timeline))
    assert first.states()["time"].values.tolist() == [DAYS[8], DAYS[3]]
    second = StatefulCallback(training=False, initial_states=first.states())
    other = predicted(second, module, span(stops, 99, chunk=1, timeline=timeline))
    # Not to the last bit: there, batches have other rows.
    assert all(torch.allclose(other[site], whole[site][stops[site] :], rtol=0, atol=1e-6) for site in SITES)


def test_a_site_that_is_not_fed_keeps_its_state_for_a_later_day() -> None:
    module, timeline = seeded(Regressor), Timeline(NAMES, DAYS)
    whole = predicted(StatefulCallback(training=False), module, span(0, 99))
    states = None
    for begin, end, sites in ((0, 5, (0, 1)), (5, 10, (0,))):
        callback = StatefulCallback(training=False, initial_states=states)
        predicted(callback, module, span(begin, end, sites=sites, timeline=timeline))
        states = callback.states()
    assert states is not None
    assert dict(zip(states["site"].values, states["time"].values, strict=True)) == {"upper": DAYS[9], "lower": DAYS[4]}
    last = StatefulCallback(training=False, initial_states=states)
    other = predicted(last, module, span({0: 10, 1: 5}, 99, timeline=timeline))
    assert all(torch.equal(other[site], whole[site][begin:]) for site, begin in ((0, 10), (1, 5)))


def test_new_forcing_on_a_time_axis_of_its_own_begins_the_day_after() -> None:
    module, first = seeded(Regressor), StatefulCallback(training=False)
    whole = predicted(StatefulCallback(training=False), module, span(0, 99))
    predicted(first, module, span(0, 10, timeline=Timeline(NAMES, DAYS[:10])))
    second = StatefulCallback(training=False, initial_states=first.states())
    other = predicted(second, module, span(10, 99, timeline=Timeline(NAMES, DAYS[10:]), count_from=10))
    assert all(torch.equal(other[site], whole[site][10:]) for site in SITES)


def test_a_single_new_day_goes_on_from_the_day_before() -> None:
    module, first = seeded(Regressor), StatefulCallback(training=False)
    whole = predicted(StatefulCallback(training=False), module, span(0, 99))
    predicted(first, module, span(0, 10, timeline=Timeline(NAMES, DAYS[:10])))
    one_day = span(10, 11, timeline=Timeline(NAMES, DAYS[10:11]), count_from=10)
    other = predicted(StatefulCallback(training=False, initial_states=first.states()), module, one_day)
    assert torch.allclose(other[0], whole[0][10:11], rtol=0, atol=1e-6)
    two_later = span(10, 11, timeline=Timeline(NAMES, DAYS[11:12]), count_from=10)
    with pytest.raises(MPTTError, match="of 2000-02-29, but its series begins with 2000-03-02"):
        predicted(StatefulCallback(training=False, initial_states=first.states()), module, two_later)


def noleap(steps: int) -> Any:
    return xr.date_range("2000-02-19", periods=steps, calendar="noleap", use_cftime=True)


@pytest.mark.parametrize("ending", [".nc", ".safetensors"])
def test_a_calendar_without_leap_days(ending: str, tmp_path: Path) -> None:
    if ending == ".safetensors":
        pytest.importorskip("safetensors")
    module, first, path = seeded(Regressor), StatefulCallback(training=False), tmp_path / f"states{ending}"
    whole = predicted(StatefulCallback(training=False), module, span(0, 99))
    time = noleap(30)
    predicted(first, module, span(0, 10, timeline=Timeline(NAMES, time)))
    first.save_states(path)
    assert open_states(path)["time"].values[0] == cftime.DatetimeNoLeap(2000, 2, 28)
    # Of its own, the new axis begins with the first of March, the day after.
    second = StatefulCallback(training=False, initial_states=path)
    other = predicted(second, module, span(10, 99, timeline=Timeline(NAMES, time[10:]), count_from=10))
    assert all(torch.equal(other[site], whole[site][10:]) for site in SITES)
    third = StatefulCallback(training=False, initial_states=path)
    with pytest.raises(MPTTError, match="are of the calendar noleap, the data of standard; dates of one"):
        predicted(third, module, span(10, 99, timeline=Timeline(NAMES, DAYS)))


def test_months_follow_one_another_though_they_differ_in_length() -> None:
    months = np.arange("2001-01", "2003-06", dtype="datetime64[M]").astype("datetime64[s]")
    module, first = seeded(Regressor), StatefulCallback(training=False)
    predicted(first, module, span(0, 13, timeline=Timeline(NAMES, months[:13])))  # February follows
    second = StatefulCallback(training=False, initial_states=first.states())
    predicted(second, module, span(13, 99, timeline=Timeline(NAMES, months[13:]), count_from=13))
    third = StatefulCallback(training=False, initial_states=first.states())
    with pytest.raises(MPTTError, match="of 2002-01-01, but its series begins with 2002-03-01"):
        predicted(third, module, span(13, 99, timeline=Timeline(NAMES, months[14:]), count_from=13))


def test_parallel_evaluation_goes_on_likewise() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 6000, FEATURES, generator=generator)
    module, cuts = seeded(Regressor), (0, 2500, 6000)

    def batches(begin: int, end: int) -> DataLoader[Any]:
        # Stretches of a site side by side in one batch, that hang together.
        pieces = [(site, at) for site in (0, 1) for at in range(begin, end, 500)]
        rows = torch.stack([x[site, at : at + 500] for site, at in pieces])
        where = {"site": [site for site, _ in pieces], "start": [at for _, at in pieces], "length": [500] * len(pieces)}
        return DataLoader(
            Batches([{"x": rows, **{key: torch.tensor(one) for key, one in where.items()}}], None), batch_size=None
        )

    whole = predicted(StatefulCallback(training=False), module, batches(0, 6000))
    states, found = None, []
    for begin, end in pairwise(cuts):
        callback = StatefulCallback(training=False, initial_states=states)
        found.append(predicted(callback, module, batches(begin, end)))
        states = callback.states()
        assert callback.sweeps is not None
        assert callback.sweeps.chunks > 2
    for site in SITES:
        assert torch.allclose(torch.cat([one[site] for one in found]), whole[site], rtol=0, atol=1e-5)


def halves(**how: Any) -> tuple[Any, xr.Dataset]:
    module, first = seeded(Regressor), StatefulCallback(training=False)
    predicted(first, module, span(0, 10, timeline=how.get("timeline", Timeline(NAMES, DAYS, inputs="1234"))))
    return module, first.states()


def take_up(module: Any, states: Any, begin: Any = 10, missing: Any = "refuse", **how: Any) -> dict[int, Tensor]:
    timeline = how.pop("timeline", Timeline(NAMES, DAYS, inputs="1234"))
    callback = StatefulCallback(training=False, initial_states=states, missing_states=missing)
    return predicted(callback, module, span(begin, 99, timeline=timeline, **how))


@pytest.mark.parametrize(
    ("begin", "message"),
    [
        (
            {0: 12, 1: 10},
            "state of site upper in initial_states is of 2000-02-29, but its series begins with 2000-03-03, so that"
            " there is a gap: feed the steps after 2000-02-29 too",
        ),
        (
            {0: 10, 1: 7},
            "state of site lower in initial_states is of 2000-02-29, but its series begins with 2000-02-27, which the"
            " state has seen already: begin with the step after 2000-02-29, or take up an earlier state",
        ),
        ({0: 11, 1: 11}, r"site upper .* begins with 2000-03-02 \(and so 1 more site"),
        ({0: 0, 1: 0}, r"begins with 2000-02-20 \(and so 1 more site\(s\)\), which the state has seen already"),
    ],
)
def test_a_gap_or_an_overlap_is_refused_with_both_dates(begin: Any, message: str) -> None:
    with pytest.raises(MPTTError, match=message):
        take_up(*halves(), begin=begin)


def test_a_site_without_a_state_is_refused_unless_asked_for() -> None:
    module, states = halves()
    known, third = states.sel(site=["upper"]), Timeline(["upper", "new"], DAYS)
    with pytest.raises(MPTTError, match=r'no state of 1 site\(s\): new\..*missing_states="zeros"'):
        take_up(module, known, timeline=third)
    found = take_up(module, known, timeline=third, missing="zeros")
    cold = predicted(StatefulCallback(training=False), module, span(10, 99))
    assert torch.equal(found[1], cold[1])
    assert torch.equal(found[0], take_up(module, states)[0])


def test_a_new_site_starts_from_the_learned_state_where_there_is_one() -> None:
    module, states = halves()
    module.initial_state = nn.Parameter(torch.full((4,), 0.5))
    states.attrs.pop("weights")
    found = take_up(module, states.sel(site=["upper"]), missing="zeros")
    assert torch.equal(found[1], predicted(StatefulCallback(training=False), module, span(10, 99))[1])
    assert torch.equal(found[0], take_up(module, states)[0])


def test_states_of_other_weights_are_refused() -> None:
    module, states = halves()
    with torch.no_grad():
        module.head.bias += 1e-6
    with pytest.raises(MPTTError, match=r"are of other weights: checksum [0-9a-f]{16}, here .*ckpt_path="):
        take_up(module, states)
    del states.attrs["weights"]
    take_up(module, states)


def test_states_of_inputs_that_were_scaled_otherwise_are_refused() -> None:
    module, states = halves()
    with pytest.raises(MPTTError, match=r"inputs that were made in another way .*checksum 1234, here 99\. Load the sc"):
        take_up(module, states, timeline=Timeline(NAMES, DAYS, inputs="99"))


def test_states_of_another_network_are_refused() -> None:
    _, states = halves()
    message = r"another network: gru, 1 layer\(s\), 4 numbers \(h\); here it is gru, 2 layer\(s\), 14 numbers \(h\+c\)"
    with pytest.raises(MPTTError, match=message):
        take_up(seeded(MODULES["lstm"]), states)


def test_states_of_other_time_steps_are_refused() -> None:
    hours = np.arange("2000-02-29T01", "2000-03-02", dtype="datetime64[h]").astype("datetime64[s]")
    with pytest.raises(MPTTError, match="are of steps of 86400 s, the data have steps of 3600 s"):
        take_up(*halves(), timeline=Timeline(NAMES, hours), count_from=10)


def test_dates_on_one_side_only_are_refused() -> None:
    module, states = halves()
    with pytest.raises(MPTTError, match="initial_states have names and dates, the data only numbers"):
        take_up(module, states, timeline=None)
    module, states = halves(timeline=None)
    with pytest.raises(MPTTError, match="the data have names and dates, initial_states only numbers"):
        take_up(module, states)


def test_steps_without_dates_count_on() -> None:
    module, states = halves(timeline=None)
    assert states["stop"].values.tolist() == [10, 10]
    with pytest.raises(MPTTError, match=r"site 0 in initial_states is that before step 10, but .* begins with step 0"):
        take_up(module, states, timeline=None, count_from=10)


def test_states_that_are_not_finite_are_refused_and_not_written(tmp_path: Path) -> None:
    module, states = halves()
    bad = states.copy(deep=True)
    bad["state"][1, 2] = np.nan
    with pytest.raises(MPTTError, match=r"initial_states has states that are not finite, of 1 site\(s\): lower"):
        take_up(module, bad)
    callback, broken = StatefulCallback(training=False), span(0, 10, timeline=Timeline(NAMES, DAYS))
    broken.dataset.batches[1]["x"][0, 2] = torch.nan  # type: ignore[attr-defined]
    with pytest.warns(MPTTWarning, match="States are not finite in this predict pass"):
        predicted(callback, module, broken)
    with pytest.warns(MPTTWarning, match=r"state of 1 site\(s\) is not finite, and is not kept: upper"):
        callback.save_states(tmp_path / "states.nc")
    assert open_states(tmp_path / "states.nc")["site"].values.tolist() == ["lower"]
    broken.dataset.batches[1]["x"][1, 2] = torch.nan  # type: ignore[attr-defined]
    with pytest.warns(MPTTWarning, match="States are not finite in this predict pass"):
        predicted(callback, module, broken)
    with pytest.raises(MPTTError, match="The state of no site is finite"):
        callback.states()


def test_a_site_whose_state_was_lost_can_go_on_from_the_one_before() -> None:
    module, states = halves()
    whole = predicted(StatefulCallback(training=False), module, span(0, 99))
    callback, broken = (
        StatefulCallback(training=False, initial_states=states),
        span(10, 15, timeline=Timeline(NAMES, DAYS)),
    )
    broken.dataset.batches[0]["x"][1, 2] = torch.nan  # type: ignore[attr-defined]
    with pytest.warns(MPTTWarning, match="States are not finite in this predict pass"):
        predicted(callback, module, broken)
    with pytest.warns(MPTTWarning, match="not kept: lower. An earlier one that it went on from is; feed the steps"):
        kept = callback.states()
    assert dict(zip(kept["site"].values, kept["time"].values, strict=True)) == {"upper": DAYS[14], "lower": DAYS[9]}
    found = take_up(module, kept, begin={0: 15, 1: 10})
    assert torch.equal(found[1], whole[1][10:])


def test_a_site_that_stands_twice_is_refused() -> None:
    module, states = halves()
    with pytest.raises(MPTTError, match="several states of upper; keep one each"):
        take_up(module, states.sel(site=["upper", "upper", "lower"]))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"evaluation": "independent"}, "evaluation=\"stateful\", found 'independent'"),
        ({"missing_states": "skip"}, 'missing_states is "refuse" or "zeros", found \'skip\''),
        ({"initial_states": "no.nc"}, "There are no states no.nc"),
        ({"initial_states": "states.csv"}, "end in .nc or .safetensors, found 'states.csv'"),
        ({"initial_states": xr.Dataset({"rain": 1})}, "initial_states holds no states: .* found rain"),
    ],
)
def test_what_cannot_be_taken_up_is_refused(how: Any, message: str) -> None:
    module, states = halves()
    with pytest.raises(MPTTError, match=message):
        predicted(StatefulCallback(**{"training": False, "initial_states": states, **how}), module, span(10, 99))


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    module, _ = halves()
    callback = StatefulCallback(training=False)
    predicted(callback, module, span(0, 10))
    callback.save_states(tmp_path / "whole.nc")
    half = (tmp_path / "whole.nc").read_bytes()
    (tmp_path / "half.nc").write_bytes(half[: len(half) // 2])
    with pytest.raises(MPTTError, match=r"half\.nc cannot be read as states"):
        take_up(module, tmp_path / "half.nc")


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, _ = halves()
    callback, path = StatefulCallback(training=False), tmp_path / "states.nc"
    predicted(callback, module, span(0, 10))
    callback.save_states(path)
    before = path.read_bytes()

    def full(dataset: Any, target: Path, **how: Any) -> None:
        Path(target).write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(xr.Dataset, "to_netcdf", full)
    with pytest.raises(MPTTError, match=r"states\.nc cannot be written: .*No space.*the file of before is kept"):
        callback.save_states(path)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["states.nc"]


def test_safetensors_without_its_package_is_refused_with_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    callback = StatefulCallback(training=False)
    predicted(callback, seeded(Regressor), span(0, 10))
    with pytest.raises(MPTTError, match=r'pip install "mptt\[safetensors\]"; or use \.nc'):
        callback.save_states(tmp_path / "states.safetensors")


def test_training_does_not_start_from_exported_states() -> None:
    module, states = halves()
    callback = MPTTCallback(windows=WindowIndex([0], [0], 6), initial_states=states)
    with pytest.raises(MPTTError, match="initial_states are for validate, test and predict"):
        quiet_trainer([callback]).fit(module, loader(shuffles(1)))


def test_after_fit_the_states_are_those_of_the_last_validation() -> None:
    module = seeded(Regressor)
    callback = MPTTCallback(windows=WindowIndex(*zip(*TABLE, strict=True)))
    quiet_trainer([callback], 2).fit(module, loader(shuffles(2)), span(0, 10))
    states = callback.states()
    again = StatefulCallback(training=False)
    predicted(again, module, span(0, 10))
    xr.testing.assert_identical(states, again.states())
    take_up(module, states, timeline=None)


def test_states_before_any_evaluation_or_after_one_that_broke_off_are_refused() -> None:
    callback = StatefulCallback(training=False)
    with pytest.raises(MPTTError, match="StatefulCallback has no states"):
        callback.states()
    bad = span(0, 10)
    bad.dataset.batches[1]["start"] += 1  # type: ignore[attr-defined]
    with pytest.raises(MPTTError, match="in order"):
        predicted(callback, seeded(Regressor), bad)
    with pytest.raises(MPTTError, match="StatefulCallback has no states"):
        callback.states()
    alone = StatefulCallback(training=False, evaluation="independent")
    predicted(alone, seeded(Regressor), span(0, 10))
    with pytest.raises(MPTTError, match="StatefulCallback has no states"):
        alone.states()


def test_states_of_several_loaders_are_had_one_by_one() -> None:
    callback = StatefulCallback(training=False)
    loaders = [span(0, 10), span(0, 5)]
    quiet_trainer([callback]).validate(seeded(Regressor), loaders, verbose=False)
    with pytest.raises(MPTTError, match="had 2 loaders; say with loader="):
        callback.states()
    assert callback.states(loader=1)["stop"].values.tolist() == [5, 5]
    with pytest.raises(MPTTError, match="There is no loader 2"):
        callback.states(loader=2)


def test_layers_that_get_their_weights_in_the_first_batch_are_exported() -> None:
    class Lazy(Regressor):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.LazyLinear(1)

    callback, module = StatefulCallback(training=False), seeded(Lazy)
    predicted(callback, module, span(0, 10))
    take_up(module, callback.states(), timeline=None)


def test_a_learned_initial_state_is_exported_as_any_other() -> None:
    callback = LearnedInitialStateCallback()
    predicted(callback, seeded(Regressor), span(0, 10))
    assert callback.states().sizes["site"] == 2


def test_a_timeline_that_is_too_short_is_refused() -> None:
    callback = StatefulCallback(training=False)
    predicted(callback, seeded(Regressor), span(0, 10, timeline=Timeline(NAMES, DAYS[:7])))
    with pytest.raises(MPTTError, match="has 7 steps, but step 9 of site upper would be number 9"):
        callback.states()


def test_safetensors_of_another_program_are_refused(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    safetensors.save_file({"state": torch.zeros(2, 4)}, tmp_path / "weights.safetensors")
    with pytest.raises(MPTTError, match=r"weights\.safetensors holds no states: callback\.save_states"):
        open_states(tmp_path / "weights.safetensors")


def test_loaders_by_name_are_counted_in_their_order() -> None:
    """As a DataModule may give them."""
    callback = StatefulCallback(training=False)
    both = {"late": span(0, 5, timeline=Timeline(["x", "y"], DAYS)), "all": span(0, 10)}
    quiet_trainer([callback]).validate(seeded(Regressor), CombinedLoader(both, "sequential"), verbose=False)
    assert callback.states(loader=0)["site"].values.tolist() == ["x", "y"]
    assert callback.states(loader=0)["time"].values.astype("datetime64[D]").astype(str).tolist() == ["2000-02-24"] * 2
    assert callback.states(loader=1)["stop"].values.tolist() == [10, 10]
