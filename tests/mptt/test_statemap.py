from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import DictionaryMemory, window_tables
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from mptt import KeyMap, MPTTError, StateMap, WindowIndex
from mptt.statemap import table_bytes
from mptt.storage import Storage

SEVEN = WindowIndex.cut([11, 8], window=4, stride=3)
# id      0  1  2  3  4  5  6        0 -> 1 at 2;  1 -> 2 at 2, 3 at 3;  2 -> 3 at 0
# site    0  0  0  0  1  1  1
# start   0  3  6  7  0  3  4        4 -> 5 at 2, 6 at 3;  5 -> 6 at 0


def numbered(ids):
    """States (B, 4, 1) that tell where they come from: 10 x window + position."""
    return (10.0 * torch.tensor(ids)[:, None] + torch.arange(4))[:, :, None]


def column(tensor):
    return tensor.squeeze(1).tolist()


def all_rows(memory):
    return memory.read(torch.arange(len(memory)))


def snapshot(memory):
    return [tensor.clone() for tensor in (memory.mu, memory.mean, memory.count, all_rows(memory), memory.refused)]


def assert_same(memory, before):
    for now, then in zip(snapshot(memory), before, strict=True):
        assert torch.equal(now, then)


def filled(delta=1.0, **kwargs):
    """A memory with messages, writes, two refused states and rows without any."""
    memory = StateMap(SEVEN, 1, delta=delta, **kwargs)
    memory.write([0, 1, 4], numbered([0, 1, 4]))
    memory.propagate()
    memory.write([2, 0], numbered([2, 0]))
    memory.write([1], torch.full((1, 4, 1), torch.inf))
    return memory


# ---------------------------------------------------------------- the seven windows, by hand


def test_seven_windows_with_delta_1_after_each_verb():
    memory = StateMap(SEVEN, 1, delta=1.0)
    assert column(all_rows(memory)) == [0, 0, 0, 0, 0, 0, 0]

    memory.write(torch.tensor([1, 0]), numbered([1, 0]))
    assert column(memory.mean) == [0, 2, 12, 13, 0, 0, 0]
    assert memory.count.tolist() == [0, 1, 1, 1, 0, 0, 0]
    assert column(all_rows(memory)) == [0, 1, 6, 6.5, 0, 0, 0]

    memory.write(torch.tensor([2, 4]), numbered([2, 4]))
    assert column(memory.mean) == [0, 2, 12, 16.5, 0, 42, 43]
    assert memory.count.tolist() == [0, 1, 1, 2, 0, 1, 1]
    assert column(all_rows(memory)) == [0, 1, 6, 11, 0, 21, 21.5]

    memory.write(torch.tensor([5, 3, 6]), numbered([5, 3, 6]))
    assert column(memory.mean) == [0, 2, 12, 16.5, 0, 42, 46.5]
    assert memory.count.tolist() == [0, 1, 1, 2, 0, 1, 2]
    assert column(memory.read(torch.tensor([6, 1, 6]))) == [31, 1, 31]
    assert column(memory.mu) == [0, 0, 0, 0, 0, 0, 0]

    memory.propagate()
    assert column(memory.mu) == pytest.approx([0, 1, 6, 11, 0, 21, 31])
    assert column(memory.mean) == [0, 0, 0, 0, 0, 0, 0]
    assert memory.count.tolist() == [0, 0, 0, 0, 0, 0, 0]
    assert column(all_rows(memory)) == pytest.approx([0, 1, 6, 11, 0, 21, 31])

    # Window 1 twice in one batch, with other states each time.
    states = torch.tensor([[0.0, 0.0, 12.0, 13.0], [0.0, 0.0, 24.0, 21.0]])
    memory.write(torch.tensor([1, 1]), states.unsqueeze(2))
    assert column(memory.mean) == [0, 0, 18, 17, 0, 0, 0]
    assert memory.count.tolist() == [0, 0, 2, 2, 0, 0, 0]
    assert column(all_rows(memory)) == pytest.approx([0, 1, 14, 15, 0, 21, 31])

    memory.propagate()
    assert column(memory.mu) == pytest.approx([0, 1, 14, 15, 0, 21, 31])


def test_seven_windows_with_delta_0_forget_mu_as_soon_as_there_is_a_write():
    memory = StateMap(SEVEN, 1, delta=0)
    memory.write(torch.arange(7), numbered(list(range(7))))
    assert column(all_rows(memory)) == [0, 2, 12, 16.5, 0, 42, 46.5]
    memory.propagate()
    assert column(memory.mu) == [0, 2, 12, 16.5, 0, 42, 46.5]
    assert column(all_rows(memory)) == [0, 2, 12, 16.5, 0, 42, 46.5]
    memory.write(torch.tensor([2]), -numbered([2]))
    assert column(all_rows(memory)) == [0, 2, 12, -20, 0, 42, 46.5]
    memory.propagate()
    assert column(memory.mu) == [0, 2, 12, -20, 0, 42, 46.5]


def test_seven_windows_with_delta_3_weigh_mu_as_three_writes():
    memory = StateMap(SEVEN, 1, delta=3)
    memory.write(torch.arange(7), numbered(list(range(7))))
    assert column(all_rows(memory)) == pytest.approx([0, 0.5, 3, 6.6, 0, 10.5, 18.6])
    memory.propagate()
    memory.write(torch.tensor([0]), numbered([0]))
    assert column(all_rows(memory)) == pytest.approx([0, (3 * 0.5 + 2) / 4, 3, 6.6, 0, 10.5, 18.6])


def test_several_writers_of_a_row_in_one_batch_count_each():
    one_batch, one_by_one = StateMap(SEVEN, 1), StateMap(SEVEN, 1)
    one_batch.write([1, 2, 2, 1], numbered([1, 2, 2, 1]))
    for window in (2, 1, 1, 2):
        one_by_one.write([window], numbered([window]))
    assert column(one_batch.mean) == [0, 0, 12, 16.5, 0, 0, 0]
    assert one_batch.count.tolist() == [0, 0, 2, 4, 0, 0, 0]
    assert_same(one_by_one, snapshot(one_batch))


def test_verbs_leave_the_rows_where_they_lie():
    memory = StateMap(SEVEN, 1)
    places = [tensor.data_ptr() for tensor in (memory.mu, memory.mean, memory.count)]
    memory.write([0, 1], numbered([0, 1]))
    memory.propagate()
    memory.load_state_dict(filled().state_dict())
    memory.link(torch.tensor([0]), torch.ones(1, 1))
    assert [tensor.data_ptr() for tensor in (memory.mu, memory.mean, memory.count)] == places


def test_rows_without_a_write_keep_mu_through_epochs():
    memory = filled()
    mu = memory.mu.clone()
    for _ in range(3):
        memory.propagate()
    untouched = [0, 2, 4, 5, 6]  # windows 2 and 0 wrote to 3 and 1
    assert torch.equal(memory.mu[untouched], mu[untouched])
    assert not torch.equal(memory.mu, mu)


def test_second_propagate_changes_nothing():
    memory = filled()
    memory.propagate()
    before = snapshot(memory)
    memory.propagate()
    assert_same(memory, before)


def test_a_table_of_more_rows_than_are_propagated_at_once_is_propagated_to_its_end():
    memory = StateMap(WindowIndex([0] * 9000, np.arange(9000), 2), 1)
    memory.write_rows(torch.arange(9000), torch.arange(9000.0).unsqueeze(1))
    memory.propagate()
    assert torch.equal(memory.mu, torch.arange(9000.0).unsqueeze(1) / 2)
    assert not memory.mean.any()
    assert not memory.count.any()


# ---------------------------------------------------------------- against the dictionary


@settings(deadline=None, max_examples=120)
@given(
    table=window_tables(),
    size=st.integers(1, 3),
    delta=st.one_of(st.sampled_from([0, 1, 0.5]), st.floats(0, 50)),
    seed=st.integers(0, 2**32 - 1),
    data=st.data(),
)
def test_equals_a_dictionary_over_random_epochs(table, size, delta, seed, data):
    random = np.random.default_rng(seed)
    memory = StateMap(WindowIndex(*np.array(table).T), size, delta=delta, dtype=torch.float64)
    oracle = DictionaryMemory(table, size, delta)
    windows = st.integers(0, len(table) - 1)
    for _ in range(data.draw(st.integers(1, 3), "epochs")):
        for _ in range(data.draw(st.integers(0, 3), "batches")):
            ids = data.draw(st.lists(windows, max_size=6), "ids")
            states = random.normal(size=(len(ids), 12, size))
            memory.write(torch.tensor(ids, dtype=torch.int64), torch.from_numpy(states))
            oracle.write(ids, states)
            asked = data.draw(st.lists(windows, min_size=1, max_size=6), "read")
            np.testing.assert_allclose(memory.read(asked), [oracle.read(v) for v in asked], rtol=1e-12, atol=1e-12)
        assert memory.count.tolist() == [len(oracle.writes[v]) for v in oracle.writes]
        np.testing.assert_allclose(memory.mean, [oracle.mean(v) for v in oracle.mu], rtol=1e-12, atol=1e-12)
        memory.propagate()
        oracle.propagate()
        np.testing.assert_allclose(memory.mu, list(oracle.mu.values()), rtol=1e-12, atol=1e-12)
        assert memory.count.sum() == 0
        assert memory.mean.abs().sum() == 0


# ---------------------------------------------------------------- copies and gradients


def test_read_is_a_copy():
    memory = filled()
    before = snapshot(memory)
    all_rows(memory).fill_(99)
    assert_same(memory, before)


def test_what_was_read_does_not_change_later():
    memory = filled()
    message = all_rows(memory)
    as_read = message.clone()
    memory.write([0, 1], numbered([5, 5]))
    memory.propagate()
    assert torch.equal(message, as_read)


def test_written_states_may_be_reused():
    memory = StateMap(SEVEN, 1)
    states = numbered([0])
    memory.write([0], states)
    states.fill_(99)
    assert memory.mean[1].item() == 2


def test_no_gradient_flows_through_a_message():
    layer = nn.GRU(1, 1, batch_first=True)
    states, _ = layer(torch.ones(2, 4, 1))
    assert states.requires_grad
    memory = StateMap(SEVEN, 1)
    memory.write([0, 1], states)
    tensors = {"mu": memory.mu, "mean": memory.mean, "read": all_rows(memory)}
    assert {name: tensor.requires_grad for name, tensor in tensors.items()} == dict.fromkeys(tensors, False)
    memory.propagate()
    assert not memory.mu.requires_grad
    torch.testing.assert_close(memory.mu[1], states[0, 2].detach() / 2)


def test_write_leaves_the_graph_of_the_states_usable():
    states = torch.ones(1, 4, 1, requires_grad=True)
    memory = StateMap(SEVEN, 1)
    memory.write([1], states * 3)
    (states * 3).sum().backward()
    assert states.grad.flatten().tolist() == [3, 3, 3, 3]


# ---------------------------------------------------------------- states that are refused


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_state_that_is_not_finite_is_refused_and_counted_and_the_others_of_its_batch_are_filed(bad):
    memory, without = filled(), filled()
    assert memory.refused.item() == 2  # those of `filled`
    states = numbered([0, 1])
    states[1, 3] = bad  # 1 -> 3; 0 -> 1 and 1 -> 2 are good
    memory.write([0, 1], states)
    assert memory.refused.item() == 3
    without.write_rows(torch.tensor([1, 2]), torch.tensor([[2.0], [12.0]]))
    assert_same(memory, [*snapshot(without)[:-1], torch.tensor(3)])
    assert (memory.count - filled().count).tolist() == [0, 1, 1, 0, 0, 0, 0]
    memory.write([0, 1], numbered([0, 1]))
    assert memory.refused.item() == 3


def test_of_several_states_written_to_one_row_the_finite_ones_count():
    memory = StateMap(SEVEN, 1)
    memory.write_rows(torch.tensor([3, 1, 3, 3]), torch.tensor([[2.0], [torch.nan], [torch.inf], [4.0]]))
    assert column(memory.mean) == [0, 0, 0, 3, 0, 0, 0]
    assert memory.count.tolist() == [0, 0, 0, 2, 0, 0, 0]
    assert memory.refused.item() == 2


def test_a_refused_state_leaves_every_bit_of_its_row():
    memory = StateMap(SEVEN, 1)
    for value in (0.1, 0.2, 0.7):
        memory.write_rows(torch.tensor([3]), torch.tensor([[value]]))
    before = snapshot(memory)
    memory.write_rows(torch.tensor([3, 3]), torch.full((2, 1), torch.nan))
    assert_same(memory, [*before[:-1], torch.tensor(2)])


def test_one_bad_number_of_a_state_refuses_all_of_it():
    memory = StateMap(SEVEN, 3)
    states = torch.ones(2, 4, 3)
    states[0, 2, 1] = torch.nan
    memory.write([0, 4], states)
    assert memory.refused.item() == 1
    assert memory.count.tolist() == [0, 0, 0, 0, 0, 1, 1]
    assert memory.mean.sum(1).tolist() == [0, 0, 0, 0, 0, 3, 3]


def test_state_too_large_for_the_memory_is_refused():
    memory = StateMap(SEVEN, 1, dtype=torch.float32)
    memory.write([0], torch.full((1, 4, 1), 1e300, dtype=torch.float64))
    assert memory.refused.item() == 1
    assert memory.count.sum() == 0


def test_a_state_that_overflows_in_half_precision_is_refused():
    memory = StateMap(SEVEN, 1, dtype=torch.float16)
    memory.write_rows(torch.tensor([3, 1]), torch.tensor([[70_000.0], [60_000.0]]))
    assert column(memory.mean) == [0, 60_000, 0, 0, 0, 0, 0]
    assert memory.refused.item() == 1


def test_states_that_the_caller_refuses_are_not_filed():
    memory = StateMap(SEVEN, 1)
    finite = torch.tensor([True, False, True])
    memory.write_rows(torch.tensor([5, 3, 1]), torch.tensor([[1.0], [2.0], [3.0]]), finite)
    assert column(memory.mean) == [0, 3, 0, 0, 0, 1, 0]
    assert memory.count.tolist() == [0, 1, 0, 0, 0, 1, 0]
    assert memory.refused.item() == 1


def test_batch_that_writes_nothing_is_not_refused():
    memory = StateMap(SEVEN, 1)
    memory.write([3, 6], torch.full((2, 4, 1), torch.nan))
    memory.write([3], torch.empty(1, 0, 1))
    assert memory.refused.item() == 0


@pytest.mark.parametrize(
    "states",
    [(2, 4), (2, 4, 1, 1), (3, 4, 1), (1, 4, 1), (2, 3, 1), (2, 4, 2)],
    ids=["2-d", "4-d", "more rows", "fewer rows", "fewer steps", "other state"],
)
def test_states_of_another_shape_are_refused(states):
    memory = filled()
    before = snapshot(memory)
    found = str(states).replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(MPTTError, match=rf"\(batch, step, state\) = \(2, at least 4, 1\), found {found}"):
        memory.write([0, 1], torch.zeros(states))
    assert_same(memory, before)


def test_states_need_only_reach_the_last_position_written():
    memory = StateMap(SEVEN, 1)
    memory.write([2], torch.tensor([[[5.0]]]))
    assert memory.mean[3].item() == 5


@pytest.mark.parametrize("ids", [[7], [-1], [0.0], [[0]]])
def test_read_and_write_refuse_bad_ids(ids):
    memory = filled()
    before = snapshot(memory)
    with pytest.raises(MPTTError, match="Window ids"):
        memory.read(torch.tensor(ids))
    with pytest.raises(MPTTError, match="Window ids"):
        memory.write(torch.tensor(ids), torch.zeros(1, 4, 1))
    assert_same(memory, before)


@pytest.mark.parametrize("delta", [-1e-9, -1, float("nan"), float("inf")])
def test_refuses_a_delta_that_is_no_weight(delta):
    with pytest.raises(MPTTError, match=f"delta is .* 0 or more, found {delta}"):
        StateMap(SEVEN, 1, delta=delta)


def test_refuses_an_empty_state():
    with pytest.raises(MPTTError, match=r"state_size .* found 0"):
        StateMap(SEVEN, 0)


def test_refuses_a_key_map_of_other_windows():
    other = WindowIndex([0], [0], 4)
    with pytest.raises(MPTTError, match=r"other windows: WindowIndex\(1 windows.*, here WindowIndex\(7 windows"):
        StateMap(SEVEN, 1, keymap=KeyMap(other))


def test_refuses_rows_of_integers():
    with pytest.raises(MPTTError, match=r"floating-point numbers, found torch\.int64"):
        StateMap(SEVEN, 1, dtype=torch.int64)


def test_refuses_more_rows_than_there_is_room_for(monkeypatch):
    assert table_bytes(7, 3, torch.float32) == 2 * 7 * 3 * 4
    monkeypatch.setattr("mptt.storage.free_memory", lambda: 168)
    StateMap(SEVEN, 3)
    with pytest.raises(MPTTError, match=r"A memory of 7 windows takes 336 bytes .* in RAM, where 168 bytes"):
        StateMap(SEVEN, 3, dtype=torch.float64)


# ---------------------------------------------------------------- devices


def test_rows_live_on_the_device_given_wherever_ids_and_states_come_from():
    memory = StateMap(SEVEN, 1, device="meta")  # a device that holds no numbers
    memory.write([0, 1], numbered([0, 1]))
    memory.write_rows(torch.tensor([3]), torch.ones(1, 1), torch.tensor([True]))
    memory.propagate()
    tensors = (memory.mu, memory.mean, memory.count, memory.refused, all_rows(memory))
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert memory.count.dtype == memory.refused.dtype == torch.int64


@pytest.mark.parametrize(("device", "without_waiting"), [("cpu", False), ("meta", True)])
def test_only_a_copy_to_the_host_is_waited_for(device, without_waiting):
    memory, values = StateMap(SEVEN, 1, device=device), SimpleNamespace(to=lambda *given, **how: (given, how))
    assert memory._here(values) == ((torch.device(device),), {"non_blocking": without_waiting})


# ---------------------------------------------------------------- dtypes


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("given_as", [torch.float64, torch.float32, torch.bfloat16])
def test_rows_keep_their_dtype_whatever_is_written(dtype, given_as):
    memory = StateMap(SEVEN, 1, dtype=dtype)
    memory.write(torch.arange(7), numbered(list(range(7))).to(given_as))
    message = all_rows(memory)
    assert {message.dtype, memory.mu.dtype, memory.mean.dtype} == {dtype}
    within = torch.finfo(dtype).eps
    assert column(message) == pytest.approx([0, 1, 6, 11, 0, 21, 31], rel=4 * within)
    memory.propagate()
    assert memory.mu.dtype == dtype
    assert column(memory.mu) == pytest.approx([0, 1, 6, 11, 0, 21, 31], rel=4 * within)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_delta_0_without_writes_reads_mu_in_every_dtype(dtype):
    memory = StateMap(SEVEN, 1, delta=0, dtype=dtype)
    memory.write([0], numbered([0]))
    memory.propagate()
    memory.propagate()
    assert column(all_rows(memory)) == [0, 2, 0, 0, 0, 0, 0]


def test_half_precision_halves_both_tables():
    whole, half = StateMap(SEVEN, 3), StateMap(SEVEN, 3, dtype=torch.bfloat16)
    assert (half.mu.dtype, half.mean.dtype) == (torch.bfloat16, torch.bfloat16)
    assert half.nbytes - 7 * 8 == (whole.nbytes - 7 * 8) / 2


def test_the_mean_of_very_many_writes_does_not_stall_in_half_precision():
    # A sum of ones in bfloat16 stops at 256.
    memory = StateMap(SEVEN, 1, delta=0, dtype=torch.bfloat16)
    for _ in range(1000):
        memory.write_rows(torch.tensor([3, 3]), torch.tensor([[0.5], [1.5]]))
    assert memory.count[3].item() == 2000
    assert column(memory.mean) == [0, 0, 0, 1, 0, 0, 0]


def test_states_in_half_precision_are_added_up_in_that_of_the_rows():
    memory = StateMap(SEVEN, 1)
    memory.write_rows(torch.full((1000,), 3), torch.ones(1000, 1, dtype=torch.bfloat16))
    assert column(memory.mean) == [0, 0, 0, 1, 0, 0, 0]


def test_several_writes_of_a_batch_are_rounded_once():
    # In steps of bfloat16, 1 + 1/256 is 1; the mean of the five, 257/256 + 1/1280, is nearer to 1 + 2/256 than to 1.
    memory = StateMap(SEVEN, 1, delta=0, dtype=torch.bfloat16)
    written = torch.tensor([[257 / 256]] * 4 + [[258 / 256]])
    memory.write_rows(torch.full((5,), 3), written)
    assert written.to(torch.bfloat16).double().mean().item() < 1 + 1 / 256
    assert column(memory.mean)[3] == 1 + 2 / 256


class Operations(TorchDispatchMode):
    """The names of the operations that run."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(function.overloadpacket.__name__)
        return function(*args, **kwargs or {})


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("verb", ["read", "write"])
def test_the_operations_of_a_read_and_a_write_do_not_depend_on_the_batch_nor_wait_for_the_device(verb, dtype):
    windows = WindowIndex.cut([2000], window=40, stride=3)
    memory = StateMap(windows, 2, dtype=dtype)
    names = []
    for size in (2, 300):
        _, target, _ = memory.keymap.links(torch.arange(size))
        states = torch.randn(len(target), 2)
        with Operations() as operations:
            memory.read_rows(target) if verb == "read" else memory.write_rows(target, states)
        names.append(operations.names)
    assert names[0] == names[1]
    assert 5 < len(names[0]) < 50
    assert not {"_local_scalar_dense", "nonzero", "_unique2", "masked_select", "equal"} & set(names[0])


def test_repr_and_nbytes_tell_what_the_rows_take():
    memory = StateMap(SEVEN, 3, delta=0.5)
    assert memory.nbytes == 2 * 7 * 3 * 4 + 7 * 8
    assert repr(memory) == "StateMap(7 rows of 3 float32, delta=0.5, in RAM, 0.0 MiB)"
    assert len(memory) == 7
    assert repr(StateMap(SEVEN, 2**17)).endswith(" delta=1, in RAM, 7.0 MiB)")


# ---------------------------------------------------------------- linkage


def test_link_sets_messages_and_drops_their_writes_only():
    memory = filled()
    before = memory.mu.clone()
    memory.link(torch.tensor([3, 0]), torch.tensor([[7.0], [8.0]]))
    assert column(memory.mu) == [8, *column(before)[1:3], 7, *column(before)[4:]]
    assert memory.count.tolist() == [0, 1, 0, 0, 0, 0, 0]
    assert column(memory.mean) == [0, 2, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("bad", [torch.nan, 1e300], ids=["nan", "too large for the rows"])
def test_link_refuses_states_that_are_not_finite(bad):
    memory = filled()
    before = snapshot(memory)
    with pytest.raises(
        MPTTError, match=r"not finite, for window 0 \(site 0, start 0\); these messages are left as they were\."
    ):
        memory.link(torch.tensor([3, 0]), torch.tensor([[7.0], [bad]], dtype=torch.float64))
    assert_same(memory, before)


def test_link_takes_states_of_any_dtype():
    memory = StateMap(SEVEN, 1)
    memory.link(torch.tensor([3]), torch.tensor([[7.0]], dtype=torch.float64))
    assert column(memory.mu) == [0, 0, 0, 7, 0, 0, 0]


# ---------------------------------------------------------------- saved and loaded


def test_state_survives_a_weights_only_file(tmp_path):
    memory = filled()
    torch.save(memory.state_dict(), tmp_path / "memory.pt")
    restored = StateMap(SEVEN, 1)
    restored.load_state_dict(torch.load(tmp_path / "memory.pt", weights_only=True))
    assert memory.count.sum() > 0
    assert_same(restored, snapshot(memory))
    for each in (memory, restored):
        each.write([4, 1], numbered([4, 1]))
        each.propagate()
    assert_same(restored, snapshot(memory))


def test_the_state_of_a_memory_says_all_that_it_is():
    memory = filled(delta=0.5)
    state = memory.state_dict()
    tensors = {name: state.pop(name) for name in ("mu", "mean", "count", "refused")}
    assert all(tensor is getattr(memory, name) for name, tensor in tensors.items())
    assert state == {
        "format": 2,
        "windows": "WindowIndex(7 windows, 2 sites, length 4)",
        "fingerprint": SEVEN.fingerprint,
        "state_size": 1,
        "delta": 0.5,
    }


def test_loaded_memory_shares_nothing_with_the_state():
    memory, restored = filled(), StateMap(SEVEN, 1)
    before = snapshot(memory)
    restored.load_state_dict(memory.state_dict())
    restored.write([0], numbered([9]))
    restored.propagate()
    assert_same(memory, before)


def test_loading_keeps_the_delta_and_dtype_of_the_memory():
    memory, restored = filled(delta=1), StateMap(SEVEN, 1, delta=0, dtype=torch.float64)
    restored.load_state_dict(memory.state_dict())
    assert (restored.delta, restored.mu.dtype) == (0, torch.float64)
    assert torch.equal(restored.mu, memory.mu.double())
    assert torch.equal(all_rows(restored)[3], memory.mean[3].double())


def test_a_memory_goes_from_float32_into_half_precision_and_back():
    memory, half, again = filled(), StateMap(SEVEN, 1, dtype=torch.bfloat16), StateMap(SEVEN, 1)
    memory.mu += 1 / 3
    half.load_state_dict(memory.state_dict())
    again.load_state_dict(half.state_dict())
    assert torch.equal(half.mu, memory.mu.bfloat16())
    assert torch.equal(half.mean, memory.mean.bfloat16())
    assert torch.equal(again.mu, half.mu.float())
    assert torch.equal(again.count, memory.count)
    assert not torch.equal(again.mu, memory.mu)


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (
            StateMap(WindowIndex.cut([11], window=4, stride=3), 1),
            r"windows WindowIndex\(4 windows, 1 sites, length 4\), here WindowIndex\(7 windows, 2 sites, length 4\)\.",
        ),
        (
            StateMap(WindowIndex(SEVEN.site, [0, 3, 6, 7, 0, 2, 4], 4), 1),
            r"length 4\) \(alike in number, but other sites or starts\)",
        ),
        (StateMap(SEVEN, 2), "state size 2, here 1"),
    ],
    ids=["fewer windows", "one start", "state size"],
)
def test_refuses_the_state_of_another_memory_and_says_what_differs(other, says):
    memory = filled()
    before = snapshot(memory)
    with pytest.raises(MPTTError, match=says):
        memory.load_state_dict(other.state_dict())
    assert_same(memory, before)


def test_names_every_difference_at_once():
    saved = StateMap(WindowIndex([0], [0], 4), 2).state_dict()
    with pytest.raises(
        MPTTError,
        match=r"state size 2, here 1; windows .*length 4\), here .*length 4\)\. Resume with the data, window, stride",
    ):
        filled().load_state_dict(saved)


def test_refuses_tables_of_another_shape_than_the_state_says():
    memory = filled()
    before = snapshot(memory)
    saved = {**memory.state_dict(), "mu": torch.zeros(7, 2), "count": torch.zeros(6, dtype=torch.int64)}
    with pytest.raises(MPTTError, match="damaged: mu, count not of the shape of its windows and state"):
        memory.load_state_dict(saved)
    assert_same(memory, before)


def test_refuses_a_later_format_and_an_earlier_one_that_had_other_tables():
    with pytest.raises(MPTTError, match="format 3, here 2"):
        filled().load_state_dict({**StateMap(SEVEN, 1).state_dict(), "format": 3})
    earlier = {**StateMap(SEVEN, 1).state_dict(), "format": 1}
    earlier["total"] = earlier.pop("mean")
    with pytest.raises(MPTTError, match=r"made for something else: format 1, here 2\. Resume with"):
        filled().load_state_dict(earlier)


def test_refuses_what_is_not_a_memory():
    memory = filled()
    before = snapshot(memory)
    incomplete = StateMap(SEVEN, 1).state_dict()
    del incomplete["count"], incomplete["mu"]
    with pytest.raises(MPTTError, match="not the state of a StateMap: count, mu missing"):
        memory.load_state_dict(incomplete)
    with pytest.raises(MPTTError, match="StateMap: count, fingerprint, mean, mu, refused, state_size, windows missing"):
        memory.load_state_dict({"format": 2})
    with pytest.raises(MPTTError, match="StateMap: fingerprint, format, state_size, windows missing"):
        memory.load_state_dict({})
    assert_same(memory, before)


def test_takes_a_keymap_that_exists_already():
    keymap = KeyMap(SEVEN)
    assert StateMap(SEVEN, 1, keymap=keymap).keymap is keymap


def test_a_storage_that_is_given_is_used_itself():
    storage = Storage("cpu")
    assert StateMap(WindowIndex.cut([11], 4, 3), 2, device=storage).storage is storage
