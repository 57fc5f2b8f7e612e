from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import window_tables
from torch import nn

from mptt import KeyMap, MPTTError, StateMap, WindowIndex, inference
from mptt.carried import CarriedState, check_in_order
from mptt.fastgru import fast_forward, is_installed
from mptt.inference import (
    Guess,
    Parallel,
    _chunk,
    _goes_through_loops,
    _width,
    infer,
    reconstruct_linkage,
    settle,
)
from mptt.recurrent import flatten_state, run, state_size
from mptt.sweeps import Sweeps

CORES = {
    "gru": lambda: nn.GRU(2, 3, batch_first=True),
    "lstm-2": lambda: nn.LSTM(2, 3, num_layers=2, batch_first=True),
}


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def core(name):
    return CORES[name]().double().eval()


def ints(*values):
    return np.array(values, dtype=np.int64)


def states(*values):
    return torch.tensor(values, dtype=torch.float32).unsqueeze(1)


# ---------------------------------------------------------------- CarriedState


def test_carried_state_by_hand():
    carried = CarriedState(1)
    carried.keep(ints(4, 1), ints(40, 10), ints(7, 9), states(0.4, 0.1))
    lane, site, start = ints(1, 4, 2, 4, 4), ints(10, 40, 10, 41, 40), ints(9, 7, 9, 7, 8)
    #             continues: yes, yes, unknown lane, another site, another step
    assert carried.continues(lane, site, start).tolist() == [True, True, False, False, False]
    assert carried.fed(lane).tolist() == [True, True, False, True, True]
    assert carried.read(lane, site, start).squeeze(1).tolist() == pytest.approx([0.1, 0.4, 0, 0, 0])
    assert carried.stop(ints(1, 4)).tolist() == [9, 7]


def test_keep_replaces_the_state_of_a_lane_and_leaves_the_others():
    carried = CarriedState(1)
    carried.keep(ints(3, 5), ints(0, 0), ints(7, 7), states(0.3, 0.5))
    carried.keep(ints(5, 4), ints(1, 2), ints(8, 6), states(0.55, 0.4))
    assert carried.read(ints(3, 4, 5), ints(0, 2, 1), ints(7, 6, 8)).squeeze(1).tolist() == pytest.approx(
        [0.3, 0.4, 0.55]
    )
    assert not carried.continues(ints(5), ints(0), ints(7)).any()


def test_reset_forgets_every_lane():
    carried = CarriedState(1)
    carried.keep(ints(3), ints(0), ints(7), states(0.3))
    carried.reset()
    assert carried.fed(ints(3)).tolist() == [False]
    assert carried.read(ints(3), ints(0), ints(7)).tolist() == [[0]]


def test_lanes_that_start_are_not_touched_by_a_state_that_is_not_finite():
    carried = CarriedState(1)
    carried.keep(ints(0, 1), ints(0, 1), ints(5, 5), states(torch.nan, torch.inf))
    # A new lane, an old lane with a new site, and one that does go on.
    read = carried.read(ints(2, 0, 1), ints(2, 9, 1), ints(0, 0, 5))
    assert read.squeeze(1).tolist() == [0, 0, torch.inf]


def test_kept_states_are_detached_copies():
    carried = CarriedState(1)
    kept = states(0.3).requires_grad_()
    carried.keep(ints(0), ints(0), ints(5), kept)
    read = carried.read(ints(0), ints(0), ints(5))
    assert not read.requires_grad
    with torch.no_grad():
        kept.fill_(9)
    read.fill_(8)
    assert carried.read(ints(0), ints(0), ints(5)).item() == pytest.approx(0.3)


def test_carried_states_take_the_dtype_of_what_is_kept():
    carried = CarriedState(1)
    carried.keep(ints(0), ints(0), ints(5), states(0.1).double() / 3)
    assert carried.read(ints(0, 1), ints(0, 0), ints(5, 0)).dtype == torch.float64


@settings(deadline=None, max_examples=100)
@given(data=st.data(), seed=st.integers(0, 2**32 - 1))
def test_carried_state_equals_a_dictionary(data, seed):
    random = np.random.default_rng(seed)
    carried, lanes = CarriedState(2), {}
    numbers = st.integers(-2, 4)
    for _ in range(data.draw(st.integers(1, 12))):
        if data.draw(st.integers(0, 9)) == 0:
            carried.reset()
            lanes.clear()
        kept = data.draw(st.lists(numbers, max_size=4, unique=True))
        site, stop = random.integers(0, 2, len(kept)), random.integers(0, 3, len(kept))
        values = torch.from_numpy(random.normal(size=(len(kept), 2)))
        carried.keep(np.array(kept, dtype=np.int64), site, stop, values)
        lanes |= {lane: (int(s), int(t), v.tolist()) for lane, s, t, v in zip(kept, site, stop, values, strict=True)}

        asked = data.draw(st.lists(numbers, max_size=5))
        lane = np.array(asked, dtype=np.int64)
        site, start = random.integers(0, 2, len(asked)), random.integers(0, 3, len(asked))
        expected = [
            lanes[at][2] if at in lanes and lanes[at][:2] == (int(s), int(a)) else [0.0, 0.0]
            for at, s, a in zip(asked, site, start, strict=True)
        ]
        assert carried.read(lane, site, start).tolist() == expected
        known = np.array([at in lanes for at in asked], dtype=bool)
        assert carried.fed(lane).tolist() == known.tolist()
        assert carried.continues(lane, site, start).tolist() == [value != [0.0, 0.0] for value in expected]
        assert carried.stop(lane[known]).tolist() == [lanes[at][1] for at in asked if at in lanes]


# ---------------------------------------------------------------- order


def carried_to(site, stop):
    carried = CarriedState(1)
    carried.keep(ints(*site), ints(*site), ints(*stop), torch.zeros(len(site), 1))
    return carried


def test_series_in_order_side_by_side_are_accepted():
    assert check_in_order(CarriedState(1), ints(5, 2), ints(0, 3), ints(9, 9)).tolist() == [-1, -1]
    carried = carried_to([5, 2], [10, 13])
    assert check_in_order(carried, ints(2, 8, 5), ints(13, 0, 10), ints(9, 9, 9)).tolist() == [-1, -1, -1]


def test_stretches_of_a_site_in_one_batch_follow_one_another():
    site, start, length = ints(2, 5, 5, 2, 5), ints(13, 10, 14, 15, 19), ints(2, 4, 5, 1, 3)
    follows = check_in_order(carried_to([5, 2], [10, 13]), site, start, length)
    assert follows.tolist() == [-1, -1, 1, 0, 2]


@pytest.mark.parametrize("start", [9, 11], ids=["overlap", "gap"])
def test_stretch_that_does_not_follow_the_row_before_of_its_site_is_refused(start):
    with pytest.raises(
        MPTTError, match=rf"site 5 comes with step {start}, but its last stretch ended before step 10\."
    ):
        check_in_order(CarriedState(1), ints(5, 2, 5), ints(0, 0, start), ints(10, 10, 10))


def test_the_last_stretch_of_a_site_is_the_one_carried_on():
    carried = CarriedState(1)
    carried.keep_last(ints(5, 2, 5), ints(10, 7, 13), states(0.1, 0.2, 0.3))
    assert carried.read(ints(2, 5), ints(2, 5), ints(7, 13)).squeeze(1).tolist() == pytest.approx([0.2, 0.3])
    assert not carried.continues(ints(5), ints(5), ints(10)).any()


@pytest.mark.parametrize("start", [9, 11, 0], ids=["overlap", "gap", "again from the start"])
def test_stretch_that_does_not_follow_is_refused(start):
    with pytest.raises(
        MPTTError, match=rf"site 5 comes with step {start}, but its last stretch ended before step 10\."
    ):
        check_in_order(carried_to([5, 2], [10, 13]), ints(2, 5), ints(13, start), ints(9, 9))


# ---------------------------------------------------------------- a series in chunks


def chunks_of(lengths, sizes):
    """Pieces (site, start, steps) of ragged series, side by side, those of unequal length one after another."""
    position = dict.fromkeys(lengths, 0)
    nth = 0
    while position:
        size = sizes[nth % len(sizes)]
        nth += 1
        by_steps = {}
        for site, start in position.items():
            by_steps.setdefault(min(size, lengths[site] - start), []).append(site)
        for steps, sites in by_steps.items():
            yield np.array(sites), np.array([position[site] for site in sites]), steps
            position |= {site: position[site] + steps for site in sites}
        position = {site: start for site, start in position.items() if start < lengths[site]}


def whole_pass(layer, series):
    """Outputs and flat states after each step, by one call of the layer a step."""
    outputs, every = [], []
    hidden = None
    for step in series:
        output, hidden = layer(step[None, None], hidden)
        outputs.append(output[0, 0])
        every.append(flatten_state(hidden)[0])
    return torch.stack(outputs), torch.stack(every)


def test_chunks_of_ragged_series_cover_each_once_in_order():
    pieces = list(chunks_of({3: 7, 1: 4}, [3]))
    assert [(site.tolist(), start.tolist(), steps) for site, start, steps in pieces] == [
        ([3, 1], [0, 0], 3),
        ([3], [3], 3),
        ([1], [3], 1),
        ([3], [6], 1),
    ]


@pytest.mark.parametrize("sizes", [[1], [4], [5, 2, 9], [100]], ids=str)
@pytest.mark.parametrize("name", CORES)
@torch.no_grad()
def test_chunked_pass_with_carried_state_equals_the_whole_pass(name, sizes):
    layer = core(name)
    series = {site: torch.randn(steps, 2, dtype=torch.float64) for site, steps in {7: 31, 0: 20, 4: 31, 9: 1}.items()}
    carried = CarriedState(state_size(layer))
    outputs = {site: [] for site in series}
    none = torch.empty(0, dtype=torch.int64)
    for site, start, steps in chunks_of({site: len(values) for site, values in series.items()}, sizes):
        check_in_order(carried, site, start, np.broadcast_to(steps, site.shape))
        inputs = torch.stack([series[s][a : a + steps] for s, a in zip(site, start, strict=True)])
        output, final, _ = run(layer, inputs, carried.read(site, site, start), none, none)
        carried.keep(site, site, start + steps, flatten_state(final))
        for row, s in enumerate(site):
            outputs[s].append(output[row])
    for site, values in series.items():
        expected, every = whole_pass(layer, values)
        torch.testing.assert_close(torch.cat(outputs[site]), expected, rtol=0, atol=1e-6)
        end = carried.read(ints(site), ints(site), ints(len(values)))
        torch.testing.assert_close(end[0], every[-1], rtol=0, atol=1e-6)


# ---------------------------------------------------------------- linkage reconstruction


def link_by_chunks(layer, memory, keymap, series, sizes):
    def feed():
        for chunk in chunks_of({site: len(values) for site, values in series.items()}, sizes):
            feed.now = chunk
            yield chunk

    def advance(initial, links):
        site, start, steps = feed.now
        inputs = torch.stack([series[s][a : a + steps] for s, a in zip(site, start, strict=True)])
        row, _, position = links
        _, final, caught = run(layer, inputs, initial, row, position)
        return caught, flatten_state(final)

    with torch.no_grad():
        return reconstruct_linkage(memory, keymap, feed(), advance)


def assert_linked(layer, memory, series):
    windows = memory.windows
    every = {site: whole_pass(layer, values)[1].detach() for site, values in series.items()}
    for v in range(len(windows)):
        site, start = int(windows.site[v]), int(windows.start[v])
        expected = every[site][start - 1] if start else torch.zeros(memory.state_size, dtype=torch.float64)
        torch.testing.assert_close(memory.mu[v], expected, rtol=0, atol=1e-12)
    assert memory.count.sum() == 0
    assert torch.equal(memory.read(torch.arange(len(windows))), memory.mu)


@pytest.mark.parametrize("sizes", [[1], [3], [4], [7, 1, 2], [100]], ids=str)
@pytest.mark.parametrize("name", CORES)
def test_linkage_sets_the_state_before_each_window_and_drops_writes(name, sizes):
    layer = core(name)
    lengths = [17, 8, 30]
    windows = WindowIndex.cut(lengths, window=6, stride=4)
    series = {site: torch.randn(steps, 2, dtype=torch.float64) for site, steps in enumerate(lengths)}
    memory = StateMap(windows, state_size(layer), dtype=torch.float64)
    everything = torch.arange(len(windows))
    for _ in range(2):
        memory.write(everything, torch.randn(len(windows), 6, memory.state_size, dtype=torch.float64))
        if not memory.mu.any():
            memory.propagate()
    assert memory.mu.any()
    assert memory.count.sum() > 0
    linked = link_by_chunks(layer, memory, memory.keymap, series, sizes)
    assert linked == int((windows.start > 0).sum()) == len(windows) - 3
    assert not memory.mu[windows.start == 0].any()
    assert_linked(layer, memory, series)


@settings(deadline=None, max_examples=30)
@given(
    table=window_tables(8),
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    name=st.sampled_from(sorted(CORES)),
    seed=st.integers(0, 2**31),
    spare=st.integers(0, 3),
)
def test_linkage_of_any_windows_by_chunks_of_any_size(table, sizes, name, seed, spare):
    torch.manual_seed(seed)
    layer = core(name)
    windows = WindowIndex(*np.array(table).T)
    lengths = {site: max(a + n for s, a, n in table if s == site) + spare for site, _, _ in table}
    series = {site: torch.randn(steps, 2, dtype=torch.float64) for site, steps in lengths.items()}
    memory = StateMap(windows, state_size(layer), dtype=torch.float64)
    linked = link_by_chunks(layer, memory, memory.keymap, series, sizes)
    assert linked == sum(start > 0 for _, start, _ in table)
    assert_linked(layer, memory, series)


def test_linkage_reaches_the_window_that_begins_where_the_series_was_cut():
    layer = core("gru")
    series = {0: torch.randn(8, 2, dtype=torch.float64)}
    memory = StateMap(WindowIndex([0, 0], [4, 5], [4, 3]), 3, dtype=torch.float64)
    assert link_by_chunks(layer, memory, KeyMap(memory.windows), series, [4]) == 2
    assert_linked(layer, memory, series)


def test_linkage_refuses_chunks_out_of_order():
    memory = StateMap(WindowIndex([0, 0], [0, 4], 4), 1)
    chunks = [(ints(0), ints(0), 4), (ints(0), ints(5), 3)]
    with pytest.raises(MPTTError, match="site 0 comes with step 5, but its last stretch ended before step 4"):
        reconstruct_linkage(
            memory, memory.keymap, chunks, lambda initial, links: (torch.ones(len(links[0]), 1), torch.ones(1, 1))
        )


def test_linkage_refuses_a_pass_that_is_not_finite():
    memory = StateMap(WindowIndex([0, 0], [0, 4], 4), 1)
    with pytest.raises(MPTTError, match="not finite"):
        reconstruct_linkage(
            memory,
            memory.keymap,
            [(ints(0), ints(0), 8)],
            lambda initial, links: (torch.full((1, 1), torch.nan), torch.zeros(1, 1)),
        )
    assert not memory.mu.any()


def test_every_chunk_starts_from_the_end_of_the_last_one_of_its_site():
    memory = StateMap(WindowIndex([0, 1], [0, 0], 4), 1)
    initials = []

    def advance(initial, links):
        initials.append(initial.squeeze(1).tolist())
        return torch.empty(0, 1), initial + 1

    sites = ints(1, 0)
    chunks = [(sites, ints(0, 0), 2), (sites[::-1], ints(2, 2), 2), (ints(1), ints(4), 1), (ints(0, 1), ints(4, 5), 1)]
    assert reconstruct_linkage(memory, memory.keymap, chunks, advance) == 0
    assert initials == [[0, 0], [1, 1], [2], [2, 3]]


# ---------------------------------------------------------------- series in parallel

LAYERS = {
    "gru": lambda **more: nn.GRU(3, 4, **more),
    "gru-2": lambda **more: nn.GRU(3, 4, num_layers=2, **more),
    "rnn": lambda **more: nn.RNN(3, 4, bias=False, **more),
    "lstm": lambda **more: nn.LSTM(3, 4, **more),
    "lstm-2-proj": lambda **more: nn.LSTM(3, 4, num_layers=2, proj_size=2, **more),
}


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("chunk", [7, 10, 33, 1000, None])
def test_series_of_different_lengths_in_parallel_are_those_of_a_plain_pass(name, batch_first, chunk):
    layer = LAYERS[name](batch_first=batch_first).double().eval()
    x, length = torch.randn(3, 100, 3, dtype=torch.float64), ints(100, 63, 7)
    first = torch.randn(3, state_size(layer), dtype=torch.float64)
    row, position = torch.tensor([0, 0, 1, 1, 2]), torch.tensor([3, 99, 0, 62, 6])
    for site, steps in enumerate(length):
        x[site, steps:] = torch.nan  # padding is not read
    inferred = infer(
        layer, x if batch_first else x.transpose(0, 1), first, length, None, row, position, Parallel(1e-12, chunk=chunk)
    )
    output = inferred.output if batch_first else inferred.output.transpose(0, 1)
    for site, steps in enumerate(length):
        alone = x[site : site + 1, :steps]
        here = row == site
        expected, final, caught = run(
            layer,
            alone if batch_first else alone.transpose(0, 1),
            first[site : site + 1],
            torch.zeros(int(here.sum()), dtype=torch.int64),
            position[here],
        )
        expected = expected if batch_first else expected.transpose(0, 1)
        assert torch.allclose(output[site, :steps], expected[0], rtol=0, atol=1e-9)
        assert torch.allclose(inferred.caught[here], caught, rtol=0, atol=1e-9)
        assert torch.allclose(flatten_state(inferred.hidden)[site], flatten_state(final)[0], rtol=0, atol=1e-9)
    assert inferred.done.chunks == {7: 15 + 9 + 1, 10: 10 + 7 + 1, 33: 4 + 2 + 1}.get(chunk, 3)


@pytest.mark.parametrize("chunk", [4, None])
def test_rows_that_follow_one_another_are_one_series(chunk):
    layer = core("lstm-2")
    x = torch.randn(2, 30, 2, dtype=torch.float64)
    # Series 0 in three rows, series 1 in two, the rows mixed.
    cut = [(0, 0, 10), (1, 0, 12), (0, 10, 15), (1, 12, 15), (0, 25, 5)]
    rows = torch.zeros(5, 15, 2, dtype=torch.float64)
    for row, (site, start, steps) in enumerate(cut):
        rows[row, :steps] = x[site, start : start + steps]
    length, follows = ints(*(steps for *_, steps in cut)), ints(-1, -1, 0, 1, 2)
    inferred = infer(layer, rows, None, length, follows, parallel=Parallel(1e-12, chunk=chunk))
    expected, _ = layer(x)
    for row, (site, start, steps) in enumerate(cut):
        found = inferred.output[row, :steps]
        assert torch.allclose(found, expected[site, start : start + steps], rtol=0, atol=1e-9), row


def test_a_long_series_is_cut_and_a_short_one_is_not():
    layer = nn.GRU(2, 32, batch_first=True).eval()
    long, short = (infer(layer, torch.randn(1, steps, 2), forward=layer.forward) for steps in (36_500, 366))
    assert long.done.chunks == 100
    assert long.done.in_order == 0
    assert short.done == Sweeps(chunks=1, sweeps=1, runs=1, in_order=0, largest_change=0.0)


def test_many_series_side_by_side_are_not_cut():
    layer = nn.LSTM(2, 64, batch_first=True).eval()
    assert infer(layer, torch.randn(200, 800, 2)).done.chunks == 200


def test_no_sweeps_is_a_plain_pass():
    layer, x = nn.GRU(2, 8, batch_first=True).eval(), torch.randn(1, 20_000, 2)
    plain = infer(layer, x, parallel=Parallel(max_sweeps=0), forward=layer.forward)
    assert torch.equal(plain.output, layer(x)[0])
    assert plain.done.chunks == 1


@pytest.mark.skipif(not is_installed(), reason="numba is not installed")
@pytest.mark.parametrize("layers", [1, 2])
def test_a_gru_goes_through_compiled_loops_where_there_are_steps_enough(layers, monkeypatch):
    calls = []
    monkeypatch.setattr("mptt.inference.fast_forward", lambda *given: calls.append(1) or fast_forward(*given))
    layer = nn.GRU(2, 8, num_layers=layers, batch_first=True).eval()
    x, position = torch.randn(2, 6000, 2), torch.tensor([5, 4999])
    inferred = infer(layer, x, length=ints(6000, 5000), row=torch.tensor([0, 1]), position=position)
    expected = layer(x)[0]
    assert calls
    assert torch.allclose(inferred.output[0], expected[0], rtol=0, atol=1e-5)
    assert torch.allclose(inferred.output[1, :5000], expected[1, :5000], rtol=0, atol=1e-5)
    top = inferred.caught[:, -8:]
    assert torch.allclose(top, expected[torch.tensor([0, 1]), position], rtol=0, atol=1e-5)
    calls.clear()
    infer(layer, x[:, :1000])
    infer(layer, x, forward=layer.forward)
    infer(nn.LSTM(2, 8, batch_first=True), x)
    assert not calls


def test_after_training_the_guess_saves_sweeps():
    layer, x = nn.GRU(2, 8, batch_first=True).eval(), torch.randn(1, 4000, 2)
    parallel = Parallel(chunk=5)
    cold = infer(layer, x, parallel=parallel)
    with torch.no_grad():
        for weight in layer.parameters():
            weight += 1e-5 * torch.randn_like(weight)
    again = infer(layer, x, parallel=parallel)
    warm = infer(layer, x, parallel=parallel, guess=cold.guess)
    assert warm.done.runs < again.done.runs
    assert torch.allclose(warm.output, layer(x)[0], rtol=0, atol=1e-4)
    # A guess of other rows is of no use, and does no harm.
    assert infer(layer, x[:, :2000], parallel=parallel, guess=cold.guess).done.chunks == 400


def test_a_layer_that_never_forgets_gives_what_a_walk_gives():
    layer = nn.RNN(1, 1, nonlinearity="relu", bias=False, batch_first=True).double().eval()
    with torch.no_grad():
        layer.weight_ih_l0.fill_(1)
        layer.weight_hh_l0.fill_(1)  # h += x
    x = torch.rand(1, 10_000, 1, dtype=torch.float64)
    inferred = infer(layer, x, parallel=Parallel(chunk=100))
    assert torch.allclose(inferred.output, x.cumsum(1), rtol=0, atol=1e-4)
    assert inferred.done.chunks == 100


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tolerance": -1.0}, "tolerance must be 0"),
        ({"max_sweeps": -1}, "max_sweeps"),
        ({"chunk": 0}, "chunk must be 1"),
    ],
)
def test_settings_that_are_none_are_refused(settings, message):
    with pytest.raises(MPTTError, match=message):
        Parallel(**settings)


@pytest.mark.parametrize("setting", ["tolerance", "max_sweeps", "chunk"])
def test_settings_of_the_least_value_are_taken_and_no_number_is_none(setting):
    least = 1 if setting == "chunk" else 0
    assert getattr(Parallel(**{setting: least}), setting) == least
    with pytest.raises(MPTTError, match=f"{setting} must be {least} or more, found nan"):
        Parallel(**{setting: float("nan")})


# ---------------------------------------------------------------- how many chunks

YEARS = 365


def years(*count):
    return ints(*count) * YEARS


@pytest.mark.parametrize(
    ("length", "follows", "width", "chunk"),
    [
        # Seven passes over k chunks of a year, (1 + k/10) a step, against 0.8 of k years at 1.1 a step: k > 38.9.
        (years(39), ints(-1), 10.0, YEARS),
        (years(38), ints(-1), 10.0, None),
        # Two series: (1 + 2k/28) a step, against 0.8 of k years at 1 + 2/28: k > 19.6.
        (years(20, 20), ints(-1, -1), 28.0, YEARS),
        (years(19, 19), ints(-1, -1), 28.0, None),
        # The same in rows, two of them going on from another.
        (years(10, 10, 10, 10), ints(-1, -1, 0, 1), 28.0, YEARS),
        (years(9, 10, 10, 9), ints(-1, -1, 0, 1), 28.0, None),
        # 101 chunks of a year would leave a last one of 100 steps; 101 of 363 leave 300.
        (ints(36_600), ints(-1), 28.0, 363),
    ],
)
def test_series_are_cut_where_sweeps_are_expected_to_take_less_than_0_8_of_a_plain_pass(length, follows, width, chunk):
    assert _chunk(Parallel(), length, follows, width, None) == chunk


def guess_of(passes):
    return Guess(torch.zeros(1, 1), torch.zeros(1, 1), passes)


@pytest.mark.parametrize(
    ("steps", "width", "passes", "chunk"),
    [
        # As many chunks as four times the width: 10 of 3651 steps, at 1 + 10/2.5 a step, against 0.8 of 36505 at 1.4.
        (36_505, 2.5, 2.0, 3651),
        (36_505, 2.5, 2.3, None),
        # A series shorter than a year is one chunk.
        (100, 10.0, 0.7, 100),
        (100, 10.0, 0.9, None),
    ],
)
def test_what_the_last_sweeps_cost_tells_whether_the_next_ones_pay(steps, width, passes, chunk):
    found = _chunk(Parallel(), ints(steps), ints(-1), width, guess_of(passes))
    assert found == chunk
    assert chunk is None or type(found) is int


def test_the_chunk_that_was_asked_for_is_taken_but_no_longer_than_the_longest_series():
    length, follows = ints(30, 100), ints(-1, -1)
    assert [_chunk(Parallel(chunk=chunk), length, follows, 1.0, None) for chunk in (1, 50, 1000)] == [1, 50, 100]
    assert _chunk(Parallel(chunk=50, max_sweeps=1), length, follows, 1.0, None) == 50
    assert _chunk(Parallel(chunk=50, max_sweeps=0), length, follows, 1.0, None) is None


@pytest.mark.parametrize(
    ("layer", "width"),
    [(nn.GRU(1, 32), 900 / 32), (nn.RNN(1, 900), 1.0), (nn.LSTM(1, 32), 200 / 32), (nn.LSTM(1, 400), 1.0)],
    ids=str,
)
def test_rows_that_double_the_time_of_a_step(layer, width):
    assert _width(layer, torch.empty(1)) == width
    assert _width(layer, SimpleNamespace(is_cuda=True)) == 4096


@pytest.mark.parametrize(
    ("inputs", "through"),
    [
        (torch.empty(2, 5000, 1), True),
        (torch.empty(5000, 2, 1), True),
        (torch.empty(2, 5000, 1, dtype=torch.float64), True),
        (torch.empty(2, 4999, 1), False),
        (torch.empty(2, 4999, 9), False),
        (torch.empty(2, 5000, 1, dtype=torch.bfloat16), False),
        (torch.empty(2, 5000, 1, device="meta"), False),
    ],
    ids=["10000 steps", "steps first", "float64", "9998 steps", "of more inputs", "bfloat16", "another device"],
)
def test_compiled_loops_are_for_float_on_the_cpu_from_ten_thousand_steps_on(inputs, through, monkeypatch):
    monkeypatch.setattr("mptt.inference.is_installed", lambda: True)
    assert _goes_through_loops(inputs) is through
    monkeypatch.setattr("mptt.inference.is_installed", lambda: False)
    assert _goes_through_loops(inputs) is False


# ---------------------------------------------------------------- what infer hands on


def recorded(monkeypatch, name, answer=None):
    """The arguments of each call of a function of `mptt.inference`; with `answer`, it is replaced by it."""
    calls, real = [], getattr(inference, name)

    def called(*args, **kwargs):
        calls.append((args, kwargs))
        return (answer or real)(*args, **kwargs)

    monkeypatch.setattr(inference, name, called)
    return calls


@pytest.mark.parametrize("compiled", [True, False])
def test_whether_to_cut_is_asked_with_all_that_is_known(compiled, monkeypatch):
    monkeypatch.setattr(inference, "_goes_through_loops", lambda inputs: compiled)
    monkeypatch.setattr(inference, "fast_forward", lambda layer, inputs, hx: layer.forward(inputs, hx))
    calls = recorded(monkeypatch, "_chunk")
    layer, parallel, guess = nn.GRU(2, 8, batch_first=True), Parallel(), guess_of(1.0)
    infer(layer, torch.randn(2, 5, 2), length=ints(5, 9), parallel=parallel, guess=guess)
    (((settings, length, follows, width, given), _),) = calls
    assert (settings is parallel, given is guess) == (True, True)
    assert (length.tolist(), follows.tolist()) == ([5, 5], [-1, -1])
    assert width == (torch.get_num_threads() if compiled else 900 / 8)


def test_a_plain_pass_keeps_the_guess_and_calls_the_forward_given():
    layer, guess, calls = nn.GRU(2, 3, batch_first=True), guess_of(9.0), []

    def forward(inputs, hx):
        calls.append(len(inputs))
        return layer.forward(inputs, hx)

    inferred = infer(layer, torch.randn(4, 5, 2), guess=guess, forward=forward)
    assert inferred.guess is guess
    assert calls == [4]
    assert inferred.done == Sweeps(chunks=4, sweeps=1, runs=4, in_order=0, largest_change=0.0)


@pytest.mark.parametrize("parallel", [Parallel(), Parallel(max_sweeps=0)])
def test_a_row_that_follows_the_first_is_run_after_it(parallel):
    layer = core("gru")
    x = torch.randn(1, 12, 2, dtype=torch.float64)
    rows = x.reshape(3, 4, 2)
    inferred = infer(layer, rows, torch.zeros(3, 3), None, ints(-1, 0, 1), parallel=parallel)
    assert torch.allclose(inferred.output.reshape(1, 12, 3), layer(x)[0], rtol=0, atol=1e-12)
    two = infer(layer, rows[:2], None, None, ints(-1, 0), parallel=parallel)
    assert torch.allclose(two.output.reshape(1, 8, 3), layer(x)[0][:, :8], rtol=0, atol=1e-12)
    assert two.done == Sweeps(chunks=2, sweeps=0, runs=2, in_order=2, largest_change=0.0)


def test_sweeps_go_by_the_settings_given(monkeypatch):
    calls = recorded(monkeypatch, "settle")
    layer, guess = core("gru"), guess_of(1.0)
    parallel = Parallel(tolerance=1e-3, max_sweeps=7, chunk=2)
    infer(layer, torch.randn(1, 6, 2, dtype=torch.float64), torch.ones(1, 3), parallel=parallel, guess=guess)
    (((_, begin, follows, *rest), _),) = calls
    assert begin.tolist() == [[1, 1, 1]] * 3
    assert begin.dtype == torch.float64
    assert follows.tolist() == [-1, 0, 1]
    assert rest == [1e-3, 7, guess, 900 / 3]


def settled(monkeypatch, guess, **more):
    """What `sweep` is asked of three chunks in a row, after `settle` was seen to hand on its answer."""
    answer = torch.full((3, 1), 7.0), Sweeps(3, 2, 6, 0, 0.0), torch.full((1, 1), 0.5)
    calls = recorded(monkeypatch, "sweep", lambda *args, **kwargs: answer)
    run, initial = object(), torch.tensor([[1.0], [2.0], [3.0]])
    states, done, found = settle(run, initial, ints(-1, 0, 1), 1e-3, 4, guess, **more)
    assert (states is answer[0], done is answer[1]) == (True, True)
    assert (found.states is answer[0], found.response is answer[2], found.passes) == (True, True, 2.0)
    (((given_run, begin, follows), asked),) = calls
    assert given_run is run
    assert follows.tolist() == [-1, 0, 1]
    return begin, asked


def test_without_a_guess_sweeps_begin_with_the_states_given(monkeypatch):
    begin, asked = settled(monkeypatch, None)
    assert begin.tolist() == [[1], [2], [3]]
    assert asked == {"tolerance": 1e-3, "max_sweeps": 4, "width": 28.0, "response": None}


def test_with_a_guess_sweeps_begin_with_it_where_a_chunk_follows_another(monkeypatch):
    guess = Guess(torch.tensor([[9.0], [8.0], [6.0]]).double(), torch.ones(1, 1), 3.0)
    begin, asked = settled(monkeypatch, guess, width=5.0)
    assert begin.tolist() == [[1], [8], [6]]
    assert begin.dtype == torch.float32
    assert asked.pop("response") is guess.response
    assert asked == {"tolerance": 1e-3, "max_sweeps": 4, "width": 5.0}


def test_of_a_guess_that_was_lost_only_what_is_finite_is_taken(monkeypatch):
    lost = Guess(torch.tensor([[9.0], [torch.nan], [6.0]]), torch.tensor([[torch.inf]]), 3.0)
    begin, asked = settled(monkeypatch, lost)
    assert begin.tolist() == [[1], [2], [6]]
    assert asked["response"] is None
    other_rows = Guess(torch.zeros(2, 1), torch.ones(1, 1), 3.0)
    begin, asked = settled(monkeypatch, other_rows)
    assert begin.tolist() == [[1], [2], [3]]
    assert asked["response"] is None


def test_chunks_go_through_the_forward_given_too():
    layer, rows = nn.GRU(2, 3, batch_first=True), []

    def forward(inputs, hx):
        rows.append(len(inputs))
        return layer.forward(inputs, hx)

    x = torch.randn(1, 400, 2)
    inferred = infer(layer, x, parallel=Parallel(chunk=50), forward=forward)
    assert rows[0] == 8  # all chunks side by side
    torch.testing.assert_close(inferred.output, layer(x)[0], atol=1e-4, rtol=0)
