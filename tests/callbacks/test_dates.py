"""Dates of any calendar as seconds, and back; random numbers that go on."""

from __future__ import annotations

import cftime
import numpy as np
import pytest
import torch

from mptt import MPTTError
from mptt.callbacks.dates import date_text, dates_of, seconds_of
from mptt.callbacks.epochs import epoch_generator, go_on


@pytest.mark.parametrize("calendar", ["standard", "gregorian", "proleptic_gregorian"])
def test_cftime_dates_of_the_calendar_of_numpy_are_as_those_of_numpy(calendar: str) -> None:
    dates = [cftime.datetime(2000, 2, 29, 6, calendar=calendar), cftime.datetime(2000, 3, 1, calendar=calendar)]
    seconds, name = seconds_of(dates)
    assert (seconds.tolist(), name) == ([951804000, 951868800], "standard")
    assert [date_text(int(second), name) for second in seconds] == ["2000-02-29T06:00:00", "2000-03-01"]


def test_a_calendar_without_leap_days_comes_back() -> None:
    dates = [cftime.datetime(2000, 2, 28, calendar="noleap"), cftime.datetime(2000, 3, 1, calendar="365_day")]
    seconds, name = seconds_of(dates)
    assert (np.diff(seconds).tolist(), name) == ([86400], "noleap")
    assert list(dates_of(seconds, name)) == dates


def test_what_is_no_date_is_refused() -> None:
    with pytest.raises(MPTTError, match=r"datetime64 or cftime, found int64: .*3"):
        seconds_of([3, 4])


def test_random_numbers_go_on_from_a_saved_state_of_their_kind_alone() -> None:
    expected = torch.rand(3, generator=epoch_generator(7, 2))
    generator = epoch_generator(7, 2)
    go_on(generator, None)
    go_on(generator, torch.zeros(16, dtype=torch.uint8))  # as of a GPU
    assert torch.equal(torch.rand(3, generator=generator), expected)
    saved = epoch_generator(7, 2).get_state()
    go_on(generator, saved)
    assert torch.equal(torch.rand(3, generator=generator), expected)
