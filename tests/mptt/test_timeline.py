import numpy as np
import pytest

from mptt import MPTTError
from mptt.timeline import Timeline

DAYS = np.arange("2000-01-01", "2000-01-11", dtype="datetime64[D]")  # ten


def ints(*values):
    return np.array(values, dtype=np.int64)


def test_dates_and_names_of_steps_and_sites():
    timeline = Timeline(["a", "b"], DAYS, begin=[0, 6])
    assert timeline.at(ints(0, 1, 1), ints(9, 0, 3)).tolist() == [9, 6, 9]
    assert timeline.dates(ints(1, 0), ints(0, 0)).astype(str).tolist() == ["2000-01-07", "2000-01-01"]
    assert timeline.names(ints(1, 0, 1)) == ["b", "a", "b"]
    assert Timeline(["a", "b"], DAYS).at(ints(1), ints(4)).tolist() == [4]
    assert timeline.at(ints(), ints()).tolist() == []


@pytest.mark.parametrize("site", [2, -1])
def test_a_site_without_a_name_is_refused(site):
    with pytest.raises(MPTTError, match=rf"names 2 sites, found site number {site}\."):
        Timeline(["a", "b"], DAYS).at(ints(1, site, 0), ints(0, 0, 0))


@pytest.mark.parametrize(("step", "number"), [(4, 10), (-7, -1)])
def test_a_step_off_the_time_is_refused_and_named(step, number):
    with pytest.raises(MPTTError, match=rf"has 10 steps, but step {step} of site b would be number {number} of them"):
        Timeline(["a", "b"], DAYS, begin=[0, 6]).at(ints(0, 1), ints(0, step))
