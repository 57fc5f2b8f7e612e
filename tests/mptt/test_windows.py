import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import slow_cut, window_tables

from mptt import MPTTError, MPTTWarning, WindowIndex


def rows(windows):
    return list(zip(windows.site.tolist(), windows.start.tolist(), windows.length.tolist(), strict=True))


def test_cut_adds_a_tail_window_that_ends_at_the_last_step():
    assert rows(WindowIndex.cut([11], window=4, stride=3)) == [(0, 0, 4), (0, 3, 4), (0, 6, 4), (0, 7, 4)]


def test_cut_adds_no_second_window_where_the_stride_hits_the_last_step():
    assert rows(WindowIndex.cut([10], window=4, stride=3)) == [(0, 0, 4), (0, 3, 4), (0, 6, 4)]


def test_cut_gives_one_window_to_a_series_as_long_as_it():
    assert rows(WindowIndex.cut([4], window=4, stride=3)) == [(0, 0, 4)]


def test_cut_numbers_windows_by_site_then_start():
    windows = WindowIndex.cut([7, 4, 8], window=4, stride=2)
    assert windows.site.tolist() == [0, 0, 0, 1, 2, 2, 2]
    assert windows.start.tolist() == [0, 2, 3, 0, 0, 2, 4]


def test_cut_takes_the_length_of_a_single_series():
    assert rows(WindowIndex.cut(6, window=4, stride=4)) == [(0, 0, 4), (0, 2, 4)]


def test_cut_keeps_the_numbers_of_the_sites_after_a_short_one():
    with pytest.warns(MPTTWarning, match=r"from 1 of 3 sites.*window of 4 steps: 1 \(3 steps\)\.$"):
        windows = WindowIndex.cut([5, 3, 4], window=4, stride=4)
    assert rows(windows) == [(0, 0, 4), (0, 1, 4), (2, 0, 4)]


def test_cut_warns_of_short_sites_by_name():
    with pytest.warns(MPTTWarning, match=r"Aare \(3 steps\), Thur \(0 steps\)\.$"):
        WindowIndex.cut([3, 9, 0], window=4, stride=2, names=["Aare", "Rhein", "Thur"])


def test_cut_names_ten_short_sites_and_counts_the_others():
    with pytest.warns(MPTTWarning, match=r"12 of 13 sites.*: 0 \(1 steps\), .*9 \(1 steps\) and 2 more\.$") as caught:
        WindowIndex.cut([1] * 12 + [5], window=5, stride=5)
    assert "10 (1 steps)" not in str(caught[0].message)


def test_cut_points_its_warning_at_the_caller():
    with pytest.warns(MPTTWarning) as caught:
        WindowIndex.cut([9, 1], window=4, stride=2)
    assert caught[0].filename == __file__


def test_cut_refuses_when_every_series_is_short():
    with pytest.raises(MPTTError, match=r"shorter than a window of 9 steps: Aare \(8 steps\), Thur \(3 steps\)\. Use"):
        WindowIndex.cut([8, 3], window=9, stride=1, names=["Aare", "Thur"])


@pytest.mark.parametrize(("window", "stride"), [(0, 1), (-3, 1), (4, 0), (4, -1)])
def test_cut_refuses_a_window_or_stride_under_one_step(window, stride):
    with pytest.raises(MPTTError, match=f"window={window}, stride={stride}"):
        WindowIndex.cut([10], window=window, stride=stride)


def test_cut_warns_when_the_stride_leaves_gaps():
    with pytest.warns(MPTTWarning, match=r"stride=5 is larger than window=4.*Use stride <= 4"):
        windows = WindowIndex.cut([14], window=4, stride=5)
    assert windows.start.tolist() == [0, 5, 10]


def test_cut_does_not_warn_of_disjoint_windows():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(WindowIndex.cut([12], window=4, stride=4)) == 3


def test_cut_refuses_lengths_that_are_not_integers():
    with pytest.raises(MPTTError, match="lengths must be integers, found float64"):
        WindowIndex.cut([10.0, 12.5], window=4, stride=2)


@settings(deadline=None, max_examples=150)
@given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=5),
    window=st.integers(1, 12),
    stride=st.integers(1, 15),
)
def test_cut_equals_a_loop_over_sites_and_starts(lengths, window, stride):
    expected = slow_cut(lengths, window, stride)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MPTTWarning)
        if not expected:
            with pytest.raises(MPTTError, match="Every series is shorter"):
                WindowIndex.cut(lengths, window, stride)
            return
        windows = WindowIndex.cut(lengths, window, stride)
    assert rows(windows) == expected


def test_one_length_serves_all_windows():
    assert WindowIndex([2, 2, 5], [0, 3, 1], 6).length.tolist() == [6, 6, 6]


def test_stop_is_the_step_after_the_last():
    assert WindowIndex([2, 2], [0, 3], [6, 1]).stop.tolist() == [6, 4]


@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.int64])
def test_arrays_are_int64_copies(dtype):
    start = np.array([0, 3], dtype=dtype)
    windows = WindowIndex(np.array([0, 0], dtype=dtype), start, 4)
    start[:] = 9
    assert windows.start.tolist() == [0, 3]
    assert {windows.site.dtype, windows.start.dtype, windows.length.dtype} == {np.dtype(np.int64)}


@pytest.mark.parametrize("name", ["site", "start", "length"])
@pytest.mark.parametrize("values", [[0.0, 1.0], [True, False], ["a", "b"]], ids=["float", "bool", "str"])
def test_refuses_arrays_that_are_not_integers(name, values):
    table = {"site": [0, 0], "start": [0, 1], "length": [4, 4], name: values}
    with pytest.raises(MPTTError, match=f"^{name} must be integers, found {np.asarray(values).dtype}"):
        WindowIndex(**table)


def test_refuses_a_negative_start_and_says_of_which_window():
    with pytest.raises(MPTTError, match="found start -2 in window 1"):
        WindowIndex([0, 0, 0], [0, -2, -1], 4)


def test_refuses_a_window_without_steps():
    with pytest.raises(MPTTError, match="found 0 in window 2"):
        WindowIndex([0, 0, 0], [0, 2, 3], [4, 4, 0])


@pytest.mark.parametrize(
    ("site", "start", "length"),
    [([0, 0], [0], 4), ([0, 0], [0, 1], [4]), ([[0, 0]], [[0, 1]], [[4, 4]]), (0, 0, 4), ([0], [0, 1], [4, 4])],
)
def test_refuses_arrays_of_unequal_or_other_shapes(site, start, length):
    with pytest.raises(MPTTError, match="equally long 1-d arrays, found"):
        WindowIndex(site, start, length)


def test_refuses_an_empty_table():
    with pytest.raises(MPTTError, match="at least one window, found none"):
        WindowIndex([], [], [])


def test_refuses_to_cut_no_series():
    with pytest.raises(MPTTError, match="at least one window"):
        WindowIndex.cut([], window=4, stride=2)


@settings(deadline=None, max_examples=150)
@given(one=window_tables(4), other=window_tables(4))
def test_fingerprints_are_equal_just_when_the_tables_are(one, other):
    first, second = (WindowIndex(*np.array(table).T) for table in (one, other))
    assert (first.fingerprint == second.fingerprint) == (one == other)
    assert first.fingerprint == WindowIndex(*map(list, np.array(one).T)).fingerprint


@pytest.mark.parametrize(
    "other",
    [
        ([0, 0, 1], [0, 3, 0], [6, 6, 5]),
        ([0, 0, 1], [0, 2, 0], [6, 6, 6]),
        ([0, 0, 2], [0, 3, 0], [6, 6, 6]),
        ([0, 1, 0], [0, 0, 3], [6, 6, 6]),
        ([0, 0], [0, 3], [6, 6]),
        ([0, 3, 0], [0, 0, 1], [6, 6, 6]),
    ],
    ids=["length", "start", "site", "order", "fewer", "columns swapped"],
)
def test_fingerprint_changes_with_every_part_of_the_table(other):
    assert WindowIndex(*other).fingerprint != WindowIndex([0, 0, 1], [0, 3, 0], 6).fingerprint


def test_fingerprint_does_not_depend_on_how_the_table_was_given():
    cut = WindowIndex.cut([9], window=6, stride=3)
    given_as = WindowIndex(np.zeros(2, np.int8), np.array([0, 3], np.uint16), [6, 6])
    assert cut.fingerprint == given_as.fingerprint


def test_repr_tells_windows_sites_and_lengths():
    assert repr(WindowIndex([0, 0, 9], [0, 3, 0], 6)) == "WindowIndex(3 windows, 2 sites, length 6)"
    assert repr(WindowIndex([0, 0, 9], [0, 3, 0], [6, 2, 4])) == "WindowIndex(3 windows, 2 sites, length 2 to 6)"


def test_len_is_the_number_of_windows():
    assert len(WindowIndex.cut([11, 8], window=4, stride=3)) == 7
