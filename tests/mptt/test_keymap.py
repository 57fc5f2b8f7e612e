import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import slow_links, window_tables

from mptt import KeyMap, MPTTError, WindowIndex

SEVEN = WindowIndex.cut([11, 8], window=4, stride=3)
# site    0  0  0  0  1  1  1
# start   0  3  6  7  0  3  4        windows 3 and 6 are the tails: their sites end where they do
SEVEN_LINKS = {
    0: [(1, 2)],
    1: [(2, 2), (3, 3)],
    2: [(3, 0)],
    3: [],
    4: [(5, 2), (6, 3)],
    5: [(6, 0)],
    6: [],
}


def triples(links):
    return [tuple(link) for link in torch.stack(links).T.tolist()]


def index(table):
    return WindowIndex(*np.array(table).T)


@pytest.mark.parametrize("window", range(7))
def test_links_of_the_seven_windows(window):
    links = triples(KeyMap(SEVEN).links(torch.tensor([window])))
    assert links == [(0, target, position) for target, position in SEVEN_LINKS[window]]


def test_links_of_a_batch_keep_its_order_and_its_repeats():
    links = triples(KeyMap(SEVEN).links(torch.tensor([5, 1, 3, 1])))
    assert links == [(0, 6, 0), (1, 2, 2), (1, 3, 3), (3, 2, 2), (3, 3, 3)]


def test_tail_window_is_written_by_its_predecessors_and_writes_to_none():
    keymap = KeyMap(SEVEN)
    row, target, _ = keymap.links(torch.arange(7))
    assert row[target == 3].tolist() == [1, 2]
    assert keymap.links(torch.tensor([3, 6]))[0].numel() == 0


def test_tail_window_writes_to_its_successor():
    # The tail at step 7 of a series is not its last window where another one starts later.
    keymap = KeyMap(WindowIndex([0, 0, 0], [0, 7, 9], [4, 4, 2]))
    assert triples(keymap.links([1])) == [(0, 2, 1)]


def test_window_does_not_write_to_one_of_its_own_start():
    keymap = KeyMap(WindowIndex([0, 0, 0], [2, 2, 3], 5))
    assert triples(keymap.links([0, 1])) == [(0, 2, 0), (1, 2, 0)]


def test_window_writes_to_the_one_that_begins_right_after_it_and_to_none_beyond():
    keymap = KeyMap(WindowIndex([0, 0, 0], [0, 4, 5], 4))
    assert triples(keymap.links([0])) == [(0, 1, 3)]


def test_windows_of_one_start_are_written_to_in_the_order_of_their_ids():
    links = triples(KeyMap(WindowIndex([0] * 61, [0] + [1] * 60, 3)).links([0]))
    assert links == [(0, target, 0) for target in range(1, 61)]


def test_windows_do_not_write_across_sites():
    # Were (site, start) one number, the last step of site 0 would touch the first of site 1.
    keymap = KeyMap(WindowIndex([0, 1, 1], [0, 0, 1], [100, 1, 1]))
    assert triples(keymap.links([0, 1, 2])) == [(1, 2, 0)]


@settings(deadline=None, max_examples=200)
@given(table=window_tables(), data=st.data())
def test_links_equal_the_definition_pair_by_pair(table, data):
    ids = data.draw(st.lists(st.integers(0, len(table) - 1), max_size=10))
    links = triples(KeyMap(index(table)).links(torch.tensor(ids, dtype=torch.int64)))
    assert len(links) == len(set(links))
    assert set(links) == slow_links(table, [table[w] for w in ids])
    assert links == sorted(links, key=lambda link: (link[0], table[link[1]][1]))


@settings(deadline=None, max_examples=200)
@given(
    table=window_tables(),
    stretches=st.lists(
        st.tuples(st.sampled_from([3, 0, 1_000_000, -4, 1, -9, 2_000_000]), st.integers(-30, 60), st.integers(0, 60)),
        max_size=6,
    ),
)
def test_reach_equals_the_definition_for_any_stretch_of_any_site(table, stretches):
    site, start, length = np.array(stretches, dtype=np.int64).reshape(-1, 3).T
    links = triples(KeyMap(index(table)).reach(site, start, length))
    assert len(links) == len(set(links))
    assert set(links) == slow_links(table, stretches)


def test_reach_takes_one_length_for_all():
    keymap = KeyMap(SEVEN)
    assert triples(keymap.reach([0, 1, 8], [2, 2, 2], 4)) == [(0, 1, 0), (0, 2, 3), (1, 5, 0), (1, 6, 1)]


def test_reach_of_a_site_without_windows_is_empty():
    assert [tensor.shape for tensor in KeyMap(SEVEN).reach([7, -1], [0, 0], 50)] == [(0,)] * 3


@pytest.mark.parametrize(
    ("start", "length", "targets"),
    [(5, 100, [2, 3]), (1000, 4, []), (-5, 2, []), (-5, 6, [0]), (-1, 1, [0]), (7, 90, [])],
    ids=["past the end", "after the end", "before the start", "onto the start", "up to the start", "after the last"],
)
def test_reach_of_a_stretch_over_the_ends_of_a_series_stays_in_it(start, length, targets):
    assert triples(KeyMap(SEVEN).reach([0], [start], length)) == [
        (0, target, [0, 3, 6, 7][target] - start - 1) for target in targets
    ]


def test_reach_of_a_stretch_before_a_series_does_not_fall_into_the_one_before():
    assert triples(KeyMap(SEVEN).reach([1, 1], [-9, -9], [2, 10])) == [(1, 4, 8)]


def test_reach_counts_in_64_bits_whatever_it_is_given():
    keymap = KeyMap(WindowIndex([0, 0], [0, 210], 4))
    site, start, length = (np.array([value], np.uint8) for value in (0, 200, 100))
    assert triples(keymap.reach(site, start, length)) == [(0, 1, 9)]
    assert {tensor.dtype for tensor in keymap.reach([], [], [])} == {torch.int64}


@pytest.mark.parametrize(("sites", "most"), [(1, 2**63 - 1), (3, (2**63 - 1) // 3)])
def test_refuses_steps_that_one_number_with_the_site_cannot_hold(sites, most):
    site = np.arange(sites)
    fits = KeyMap(WindowIndex(site, np.full(sites, most - 3), 2))  # ends before step `most - 1`
    assert triples(fits.reach(site, np.full(sites, most - 5), 3)) == [(row, row, 1) for row in range(sites)]
    with pytest.raises(
        MPTTError,
        match=rf"Steps up to {most} of {sites} sites do not fit into one 64-bit number; count steps from the start of",
    ):
        KeyMap(WindowIndex(site, np.full(sites, most - 2), 2))


def test_links_are_int64_on_the_cpu_for_ids_of_any_kind():
    keymap = KeyMap(SEVEN)
    expected = triples(keymap.links(torch.tensor([1, 4])))
    for ids in ([1, 4], np.array([1, 4], np.uint8), torch.tensor([1, 4], dtype=torch.int32)):
        links = keymap.links(ids)
        assert triples(links) == expected
        assert {(tensor.dtype, tensor.device.type) for tensor in links} == {(torch.int64, "cpu")}


def test_empty_batch_writes_nothing():
    assert [tensor.shape for tensor in KeyMap(SEVEN).links(torch.empty(0, dtype=torch.int64))] == [(0,)] * 3


@pytest.mark.parametrize("ids", [[7], [0, -1], [3, 10**12]])
def test_refuses_ids_outside_the_table(ids):
    with pytest.raises(MPTTError, match=f"from 0 to 6, found {min(ids)} to {max(ids)}; the ids in the batch and"):
        KeyMap(SEVEN).links(torch.tensor(ids))


@pytest.mark.parametrize(
    "ids",
    [torch.tensor([1.0]), torch.tensor([True, False]), torch.tensor([[0, 1]]), torch.tensor(3), np.array([0.5])],
    ids=["float", "mask", "2-d", "0-d", "numpy float"],
)
def test_refuses_ids_that_are_not_a_vector_of_integers(ids):
    with pytest.raises(MPTTError, match="1-d tensor of integers, found"):
        KeyMap(SEVEN).links(ids)


def test_packed_links_are_taken_out_of_the_batch_as_they_were_put_in(monkeypatch):
    keymap, ids = KeyMap(SEVEN), torch.tensor([5, 1, 3, 1])
    packed = keymap.pack(ids)
    assert {name: (one.dtype, one.shape) for name, one in packed.items()} == {
        "links": (torch.int64, (3, 5)),
        "links_of": (torch.int64, (5,)),
    }
    expected, batch = triples(keymap.links(ids)), {"x": 1, **packed}
    twin = KeyMap(WindowIndex.cut([11, 8], window=4, stride=3))
    monkeypatch.setattr(twin, "links", None)  # it has no need of them
    assert triples(twin.unpack(batch, ids)) == expected
    assert batch == {"x": 1}


def test_packed_links_of_a_batch_that_writes_nothing_are_empty():
    ids = torch.tensor([3, 6])
    assert [len(one) for one in KeyMap(SEVEN).unpack(KeyMap(SEVEN).pack(ids), ids)] == [0, 0, 0]


@pytest.mark.parametrize(
    ("made_by", "made_for"),
    [
        (WindowIndex.cut([11, 8], window=4, stride=2), [0, 1]),
        (WindowIndex(SEVEN.site, [0, 3, 6, 7, 0, 2, 4], 4), [0, 1]),
        (SEVEN, [1, 0]),
        (SEVEN, [0]),
    ],
    ids=["other windows", "one other start", "other order", "fewer ids"],
)
def test_packed_links_of_something_else_are_not_used(made_by, made_for):
    batch = KeyMap(made_by).pack(torch.tensor(made_for))
    assert triples(KeyMap(SEVEN).unpack(batch, torch.tensor([0, 1]))) == [(0, 1, 2), (1, 2, 2), (1, 3, 3)]


@pytest.mark.parametrize("own", [{}, {"links": "mine"}, {"links": torch.zeros(3, 1), "links_of": "mine"}])
def test_a_batch_without_packed_links_gets_them_made_and_keeps_what_is_in_it(own):
    batch = dict(own)
    assert triples(KeyMap(SEVEN).unpack(batch, torch.tensor([0, 1]))) == [(0, 1, 2), (1, 2, 2), (1, 3, 3)]
    assert batch.keys() == own.keys()


def test_repr_counts_links():
    assert repr(KeyMap(SEVEN)) == "KeyMap(7 links between 7 windows)"


def test_a_million_windows_take_arrays_only():
    sites, stride, each = 1000, 183, 1000
    windows = WindowIndex.cut(np.full(sites, 366 + stride * (each - 1)), window=366, stride=stride)
    assert len(windows) == 1_000_000
    keymap = KeyMap(windows)
    row, target, position = keymap.links(torch.tensor([999_997, 999_998, 999_999, 0, 998_999]))
    assert row.tolist() == [0, 0, 1, 3, 3]
    assert target.tolist() == [999_998, 999_999, 999_999, 1, 2]
    assert position.tolist() == [182, 365, 182, 182, 365]
    arrays = [value for value in vars(keymap).values() if not isinstance(value, WindowIndex | int)]
    arrays += list(vars(windows).values())
    assert {type(array) for array in arrays} == {np.ndarray}
    assert {array.dtype for array in arrays} == {np.dtype(np.int64)}
    assert sum(array.nbytes for array in arrays) < 100 * len(windows)


def test_windows_of_one_start_are_written_in_order_of_their_ids_however_many():
    starts = np.random.default_rng(0).permutation(np.repeat([0, 5, 9], 300))
    keymap = KeyMap(WindowIndex(np.zeros(900, int), starts, 4))
    writer = torch.tensor([int(np.flatnonzero(starts == 5)[0])])
    _, target, position = keymap.links(writer)
    assert target.tolist() == np.flatnonzero(starts == 9).tolist()
    assert set(position.tolist()) == {3}
