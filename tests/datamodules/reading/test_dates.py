import numpy as np
import pytest

from mptt import MPTTError
from mptt.datamodules.reading.dates import read_dates


@pytest.mark.parametrize(
    ("text", "date"),
    [
        ("2000-01-31", "2000-01-31"),
        ("2000/01/31", "2000-01-31"),
        ("20000131", "2000-01-31"),
        ("200001", "2000-01-01"),
        ("2000-01", "2000-01-01"),
        ("2000-01-31 06:30", "2000-01-31T06:30"),
        ("2000-01-31T06:30:15Z", "2000-01-31T06:30:15"),
        ("200001310630", "2000-01-31T06:30"),
        ("2000-01-31 24:00", "2000-02-01"),
        ("2902-12-31", "2902-12-31"),
    ],
)
def test_dates_of_many_forms(text, date):
    found = read_dates(np.array([text]))
    assert found.dtype == "datetime64[s]"
    assert found[0] == np.datetime64(date, "s")


def test_forms_that_are_asked_for():
    assert read_dates(np.array(["31.12.2000"]), form="%d.%m.%Y")[0] == np.datetime64("2000-12-31", "s")


def test_other_calendars():
    assert str(read_dates(np.array(["2001-02-30"]), "360_day")[0]) == "2001-02-30 00:00:00"
    assert read_dates(np.array(["2000-02-28", "2000-03-01"]), "noleap").calendar == "noleap"


@pytest.mark.parametrize(
    ("text", "calendar", "message"),
    [
        ("2001-02-29", "standard", "not in the calendar"),
        ("2000-02-29", "noleap", "not in the calendar noleap"),
        ("1/2/2000", "standard", "time_format"),
        ("2000-01-31T01:00:00+01:00", "standard", "not a date"),
        ("", "standard", "not a date"),
        ("2000-01-31", "lunar", "no calendar 'lunar'"),
    ],
)
def test_what_is_no_date_is_refused(text, calendar, message):
    with pytest.raises(MPTTError, match=message):
        read_dates(np.array([text]), calendar)
