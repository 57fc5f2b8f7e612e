from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from mptt import MPTTError
from mptt.experiments.comparison.same_test import check_same_test
from mptt.experiments.records import save_predictions

Writer = Callable[..., Path]


@pytest.fixture
def run(tmp_path: Path) -> Writer:
    """Writes a run's predictions, the same ones but for what is asked."""

    def write(
        name: str,
        first: str = "2001-01-01",
        steps: int = 9,
        sites: str = "ab",
        warmup: int = 2,
        target: str = "SW",
        change: Callable[[np.ndarray], object] | None = None,
    ) -> Path:
        observed = np.linspace(100, 200, len(sites) * steps, dtype=np.float32).reshape(len(sites), steps)
        observed[0, 3] = np.nan
        if change is not None:
            change(observed)
        time = np.datetime64(first, "s") + np.arange(steps) * np.timedelta64(86400, "s")
        variables = {name: (("site", "time"), values) for name, values in {target: observed * 2}.items()}
        variables[f"{target}_observed"] = (("site", "time"), observed)
        folder = tmp_path / name
        folder.mkdir()
        predictions = xr.Dataset(variables, {"site": list(sites), "time": time}, {"warmup_steps": warmup})
        save_predictions(predictions, folder / "predictions.nc")
        return folder

    return write


def scale(observed: np.ndarray) -> None:
    # As of scalers of other training parts.
    observed[:] = ((observed - np.float32(37.7)) / np.float32(3.3)) * np.float32(3.3) + np.float32(37.7)


def test_same_part_may_be_compared_whatever_was_predicted(run: Writer) -> None:
    check_same_test([run("one"), run("two"), run("other scalers", change=scale)])
    check_same_test([run("alone")])


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"first": "2001-01-02"}, "2001-01-01 to 2001-01-09 (9 steps) and 2001-01-02 to 2001-01-10 (9 steps)"),
        ({"steps": 8}, "2001-01-01 to 2001-01-09 (9 steps) and 2001-01-01 to 2001-01-08 (8 steps)"),
        ({"sites": "ac"}, "2 and 2 sites, not in both: b, c"),
        ({"sites": "abd"}, "2 and 3 sites, not in both: d"),
        ({"sites": "ba"}, "2 and 2 sites"),
        ({"target": "SNO"}, "1 and 1 targets, not in both: SNO, SW"),
        ({"warmup": 3}, "warm-ups of 2 and 3 steps in the period 2001-01-01 to 2001-01-09"),
        ({"change": lambda values: values.__setitem__((1, 4), 7.0)}, "differ at 1 steps"),
        ({"change": lambda values: values.__setitem__((0, 3), 7.0)}, "first at a on 2001-01-04 (nan and 7)"),
        ({"change": lambda values: values.__setitem__((1, 4), np.nan)}, "first at b on 2001-01-05"),
        ({"change": lambda values: values.__setitem__((1, 4), values[1, 4] * 1.001)}, "differ at 1 steps"),
    ],
    ids=[
        *("later", "shorter", "other-site", "more-sites", "other-order", "other-target", "warm-up"),
        *("observation", "missing-before", "missing-now", "a-thousandth"),
    ],
)
def test_different_parts_are_refused(other: dict[str, object], said: str, run: Writer) -> None:
    folders = [run("one"), run("two"), run("three", **other)]
    with pytest.raises(MPTTError) as error:
        check_same_test(folders)
    assert said in str(error.value)
    assert f"{folders[0]} and {folders[2]} were not tested on the same part" in str(error.value)
