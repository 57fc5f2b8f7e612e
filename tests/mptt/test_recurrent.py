import copy
import io

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.checkpoint import checkpoint

from mptt import MPTTError
from mptt.recurrent import chain, flatten_state, recurrent_layers, run, state_size, state_units, unflatten_state
from mptt.tap import Tap

INPUTS, HIDDEN = 3, 4
KINDS = {
    "rnn-tanh": (nn.RNN, {}),
    "rnn-relu": (nn.RNN, {"nonlinearity": "relu"}),
    "gru": (nn.GRU, {}),
    "lstm": (nn.LSTM, {}),
    "lstm-proj": (nn.LSTM, {"proj_size": 2}),
}
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def make(kind, **kwargs):
    cls, own = KINDS[kind]
    return cls(INPUTS, HIDDEN, **own, **kwargs)


def integers(*values):
    return torch.tensor(values, dtype=torch.int64)


# ---------------------------------------------------------------- the oracle: one step of one layer at a time


def cell(layer, number, x, h, c):
    """One step, by the formulas of the PyTorch documentation."""
    weight_ih, weight_hh = getattr(layer, f"weight_ih_l{number}"), getattr(layer, f"weight_hh_l{number}")
    from_input, from_hidden = x @ weight_ih.T, h @ weight_hh.T
    if layer.bias:
        from_input = from_input + getattr(layer, f"bias_ih_l{number}")
        from_hidden = from_hidden + getattr(layer, f"bias_hh_l{number}")
    if isinstance(layer, nn.GRU):
        reset_x, update_x, new_x = from_input.chunk(3, dim=1)
        reset_h, update_h, new_h = from_hidden.chunk(3, dim=1)
        update = torch.sigmoid(update_x + update_h)
        new = torch.tanh(new_x + torch.sigmoid(reset_x + reset_h) * new_h)
        return (1 - update) * new + update * h, c
    if isinstance(layer, nn.LSTM):
        i, f, g, o = (from_input + from_hidden).chunk(4, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        return (h @ getattr(layer, f"weight_hr_l{number}").T if layer.proj_size else h), c
    act = torch.relu if layer.nonlinearity == "relu" else torch.tanh
    return act(from_input + from_hidden), c


def step_by_step(layer, inputs, initial):
    """Output of the top layer (B, L, H) and flat states (B, L, S) after each step, of inputs (B, L, F)."""
    width = layer.proj_size or layer.hidden_size
    h = [initial[:, n * width : (n + 1) * width] for n in range(layer.num_layers)]
    rest = initial[:, layer.num_layers * width :]
    c = [rest[:, n * layer.hidden_size : (n + 1) * layer.hidden_size] for n in range(layer.num_layers)]
    outputs, states = [], []
    for step in range(inputs.shape[1]):
        x = inputs[:, step]
        for n in range(layer.num_layers):
            h[n], c[n] = cell(layer, n, x, h[n], c[n])
            x = h[n]
        outputs.append(x)
        states.append(torch.cat(h + c, dim=1))
    return torch.stack(outputs, dim=1), torch.stack(states, dim=1)


def gradients(layer, inputs, output, final):
    """Of a loss that weighs every number of the output and of the final state differently."""
    weigh = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).reshape(output.shape)
    loss = (weigh * output**2).mean() + (final * torch.linspace(0.5, 1, final.shape[1], dtype=final.dtype)).mean()
    return torch.autograd.grad(loss, [inputs, *layer.parameters()])


def assert_equals_the_loop(layer, inputs, initial, row, position):
    """`inputs` (B, L, F) whatever the layer's own order."""
    close = {"rtol": 0, "atol": TOLERANCE[inputs.dtype]}
    inputs = inputs.requires_grad_()
    output, final, caught = run(layer, inputs if layer.batch_first else inputs.transpose(0, 1), initial, row, position)
    output = output if layer.batch_first else output.transpose(0, 1)
    expected, states = step_by_step(layer, inputs, initial)
    torch.testing.assert_close(output, expected, **close)
    torch.testing.assert_close(flatten_state(final), states[:, -1], **close)
    torch.testing.assert_close(caught, states[row, position].detach(), **close)
    assert not caught.requires_grad
    for mine, theirs in zip(
        gradients(layer, inputs, output, flatten_state(final)),
        gradients(layer, inputs, expected, states[:, -1]),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, **close)


# ---------------------------------------------------------------- run


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
@pytest.mark.parametrize("batch_first", [True, False], ids=["batch-first", "step-first"])
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_run_equals_a_loop_over_cells(kind, layers, batch_first, bias, dtype):
    layer = make(kind, num_layers=layers, batch_first=batch_first, bias=bias).to(dtype)
    # Row 0 twice, rows at positions of their own, one position twice of a row, the first and the last step.
    row, position = integers(0, 2, 1, 0, 2, 4, 4, 1), integers(3, 0, 8, 5, 3, 6, 6, 4)
    assert_equals_the_loop(
        layer,
        torch.randn(5, 9, INPUTS, dtype=dtype),
        torch.randn(5, state_size(layer), dtype=dtype),
        row,
        position,
    )


@settings(deadline=None, max_examples=60)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    layers=st.integers(1, 3),
    batch_first=st.booleans(),
    batch=st.integers(1, 4),
    steps=st.integers(1, 8),
    seed=st.integers(0, 2**31),
    data=st.data(),
)
def test_run_equals_a_loop_over_cells_wherever_it_is_cut(kind, layers, batch_first, batch, steps, seed, data):
    torch.manual_seed(seed)
    catches = data.draw(st.lists(st.tuples(st.integers(0, batch - 1), st.integers(0, steps - 1)), max_size=8))
    row, position = torch.tensor(catches, dtype=torch.int64).reshape(-1, 2).T
    layer = make(kind, num_layers=layers, batch_first=batch_first).double()
    inputs = torch.randn(batch, steps, INPUTS, dtype=torch.float64)
    assert_equals_the_loop(layer, inputs, torch.randn(batch, state_size(layer), dtype=torch.float64), row, position)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_run_with_zeros_and_no_positions_is_the_layer_itself(kind, layers):
    layer = make(kind, num_layers=layers, batch_first=True)
    inputs = torch.randn(2, 6, INPUTS)
    output, final, caught = run(layer, inputs, torch.zeros(2, state_size(layer)), integers(), integers())
    expected, expected_final = layer(inputs)
    torch.testing.assert_close(output, expected, rtol=0, atol=0)
    torch.testing.assert_close(final, expected_final, rtol=0, atol=0)
    assert caught.shape == (0, state_size(layer))


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_in_training_leaves_the_states_of_one_consistent_pass(kind):
    layer = make(kind, num_layers=3, batch_first=True, dropout=0.5).double().train()
    segments = []

    def recorded(inputs, hx):
        output, final = layer.forward(inputs, hx)
        segments.append((inputs, flatten_state(hx), output, flatten_state(final)))
        return output, final

    inputs, initial = torch.randn(3, 10, INPUTS).double(), torch.randn(3, state_size(layer)).double()
    row, position = integers(0, 1, 2, 1, 0), integers(2, 2, 6, 9, 6)
    output, final, caught = run(layer, inputs, initial, row, position, forward=recorded)

    fed, begins, outputs, ends = zip(*segments, strict=True)
    assert [piece.shape[1] for piece in fed] == [3, 4, 3]
    assert torch.equal(torch.cat(fed, dim=1), inputs)
    assert torch.equal(torch.cat(outputs, dim=1), output)
    for begin, before in zip(begins, (initial, *ends[:-1]), strict=True):
        assert torch.equal(begin, before)
    assert torch.equal(flatten_state(final), ends[-1])
    segment = {2: 0, 6: 1, 9: 2}
    assert torch.equal(caught, torch.stack([ends[segment[p]][r] for r, p in zip(row, position.tolist(), strict=True)]))
    # Below the first dropout the states are those of a pass without; the top layer's are its output.
    width = output.shape[2]
    _, undropped = step_by_step(layer, inputs, initial)
    torch.testing.assert_close(caught[:, :width], undropped[row, position, :width].detach(), rtol=0, atol=1e-12)
    assert not torch.allclose(caught[:, width : 3 * width], undropped[row, position, width : 3 * width].detach())
    torch.testing.assert_close(caught[:, 2 * width : 3 * width], output[row, position].detach(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_float32_messages_start_a_layer_of_another_dtype(kind, layers):
    layer = make(kind, num_layers=layers, batch_first=True).to(torch.bfloat16)
    initial = torch.rand(2, state_size(layer))
    inputs = torch.randn(2, 5, INPUTS, dtype=torch.bfloat16)
    output, _, caught = run(layer, inputs, initial, integers(1), integers(2))
    expected, _ = layer(inputs, unflatten_state(layer, initial.to(torch.bfloat16)))
    assert output.dtype == caught.dtype == torch.bfloat16
    torch.testing.assert_close(output, expected)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_everything_goes_to_the_device_and_dtype_of_the_inputs(kind, layers):
    layer = make(kind, num_layers=layers, batch_first=True).double().to("meta")  # a device that holds no numbers
    inputs = torch.empty(2, 5, INPUTS, device="meta", dtype=torch.float64)
    initial = torch.zeros(2, state_size(layer))
    output, final, caught = run(layer, inputs, initial, integers(1, 0), integers(2, 4))
    chained = chain(layer, inputs, initial, torch.tensor([False, True]))
    found = [output, flatten_state(final), caught, chained]
    assert {(tensor.device.type, tensor.dtype) for tensor in found} == {("meta", torch.float64)}
    assert [tuple(tensor.shape) for tensor in found[1:]] == [(2, state_size(layer))] * 3


def test_states_of_a_lower_dtype_than_the_inputs_are_caught_in_theirs():
    layer = nn.GRU(INPUTS, HIDDEN, num_layers=2, batch_first=True)

    def autocast(inputs, hx):
        output, final = layer.forward(inputs, hx.float())
        return output, final.bfloat16()

    inputs = torch.randn(1, 4, INPUTS)
    _, final, caught = run(layer, inputs, torch.zeros(1, 2 * HIDDEN), integers(0), integers(3), autocast)
    assert caught.dtype == torch.float32
    assert torch.equal(caught, flatten_state(final).float())


def test_a_layer_that_need_not_be_cut_is_run_once_and_its_output_not_copied():
    layer = nn.LSTM(INPUTS, HIDDEN, batch_first=True)
    made = []

    def recorded(inputs, hx):
        made.append(layer.forward(inputs, hx))
        return made[-1]

    output, _, _ = run(layer, torch.randn(1, 4, INPUTS), torch.zeros(1, 2 * HIDDEN), integers(), integers(), recorded)
    assert len(made) == 1
    assert output is made[0][0]


# ---------------------------------------------------------------- the flat state


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_flatten_and_unflatten_are_inverse(kind, layers):
    layer = make(kind, num_layers=layers, batch_first=True)
    state = torch.randn(5, state_size(layer))
    hidden = unflatten_state(layer, state)
    assert torch.equal(flatten_state(hidden), state)
    _, final = layer(torch.randn(5, 2, INPUTS), hidden)  # the layer takes it as its hx
    again = unflatten_state(layer, flatten_state(final))
    for mine, theirs in zip(*((it if isinstance(it, tuple) else (it,)) for it in (again, final)), strict=True):
        assert torch.equal(mine, theirs)


def test_flat_state_of_a_gru_is_layer_after_layer():
    layer = nn.GRU(1, 2, num_layers=2)
    hidden = unflatten_state(layer, torch.tensor([[1.0, 2, 3, 4], [5, 6, 7, 8]]))
    assert hidden.tolist() == [[[1, 2], [5, 6]], [[3, 4], [7, 8]]]


def test_flat_state_of_an_lstm_is_every_h_and_then_every_c():
    layer = nn.LSTM(1, 2, num_layers=2, proj_size=1)
    h, c = unflatten_state(layer, torch.tensor([[1.0, 2, 3, 4, 5, 6]]))
    assert h.tolist() == [[[1]], [[2]]]
    assert c.tolist() == [[[3, 4]], [[5, 6]]]
    assert flatten_state((h, c)).tolist() == [[1, 2, 3, 4, 5, 6]]


@pytest.mark.parametrize(
    ("layer", "size"),
    [
        (nn.RNN(7, 5), 5),
        (nn.GRU(7, 32, num_layers=2), 64),
        (nn.LSTM(7, 5, num_layers=3), 30),
        (nn.LSTM(7, 32, proj_size=8), 40),
        (nn.LSTM(7, 32, num_layers=2, proj_size=8), 80),
    ],
    ids=str,
)
def test_state_size_counts_every_number_carried(layer, size):
    assert state_size(layer) == size


def test_units_of_a_flat_state_are_named_in_its_order():
    assert state_units(nn.GRU(7, 2, num_layers=2)) == [(0, "h"), (0, "h"), (1, "h"), (1, "h")]
    assert state_units(nn.LSTM(7, 2, num_layers=2, proj_size=1)) == [
        (0, "h"),
        (1, "h"),
        (0, "c"),
        (0, "c"),
        (1, "c"),
        (1, "c"),
    ]


def test_recurrent_layers_are_found_by_dotted_name():
    model = nn.ModuleDict(
        {"encoder": nn.ModuleDict({"gru": nn.GRU(1, 1)}), "head": nn.Linear(1, 1), "lstm": nn.LSTM(1, 1)}
    )
    assert recurrent_layers(model) == {"encoder.gru": model["encoder"]["gru"], "lstm": model["lstm"]}
    assert recurrent_layers(nn.Linear(1, 1)) == {}
    assert list(recurrent_layers(nn.RNN(1, 1))) == [""]


# ---------------------------------------------------------------- the tap


def gru_and_tap(**kwargs):
    layer = nn.GRU(INPUTS, HIDDEN, batch_first=True, **kwargs)
    return layer, Tap(layer, "encoder.gru")


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_tap_sets_the_initial_state_and_catches_states(kind, layers):
    layer = make(kind, num_layers=layers, batch_first=True)
    tap = Tap(layer, "core")
    inputs, initial = torch.randn(3, 6, INPUTS), torch.randn(3, state_size(layer))
    row, position = integers(2, 0, 1), integers(0, 5, 3)
    tap.attach(initial, row, position, steps=[6])
    output, final = layer(inputs)
    caught = tap.detach()
    expected, states = step_by_step(layer, inputs, initial)
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(flatten_state(final), states[:, -1], rtol=0, atol=1e-6)
    torch.testing.assert_close(caught, states[row, position].detach(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_tap_without_initial_state_starts_from_zeros(kind, batch_first):
    layer = make(kind, batch_first=batch_first)
    tap = Tap(layer, "core")
    inputs = torch.randn(3, 6, INPUTS)
    expected, _ = layer(inputs)
    tap.attach(None, integers(1), integers(2))
    output, _ = layer(inputs)
    assert tap.detach().shape == (1, state_size(layer))
    torch.testing.assert_close(output, expected)


def test_detached_layer_is_what_it_was():
    layer, tap = gru_and_tap()
    before = dict(layer.__dict__)
    tap.attach(torch.zeros(1, HIDDEN), integers(0), integers(1))
    assert "forward" in layer.__dict__
    layer(torch.randn(1, 4, INPUTS))
    tap.detach()
    assert layer.__dict__ == before
    assert "forward" not in layer.__dict__
    assert layer.forward.__func__ is nn.GRU.forward


def test_forward_that_somebody_else_had_set_is_called_and_put_back():
    layer, tap = gru_and_tap()
    calls = []

    def theirs(inputs, hx=None):
        calls.append(hx)
        return nn.GRU.forward(layer, inputs, hx)

    layer.forward = theirs
    before = dict(layer.__dict__)
    tap.attach(torch.ones(1, HIDDEN), integers(0), integers(1))
    layer(torch.randn(1, 4, INPUTS))
    tap.detach()
    assert [hx.flatten().tolist() for hx in calls] == [[1.0] * HIDDEN]
    assert layer.__dict__ == before
    assert layer.forward is theirs


def test_detach_cleans_up_after_a_call_that_failed():
    layer, tap = gru_and_tap()
    tap.attach(torch.zeros(2, HIDDEN), integers(0), integers(1))
    with pytest.raises(MPTTError):
        layer(torch.randn(1, 4, INPUTS))
    assert tap.detach() is None
    assert "forward" not in layer.__dict__


def test_detach_of_a_tap_that_is_not_attached_does_nothing():
    layer, tap = gru_and_tap()
    assert tap.detach() is None
    tap.attach(None, integers(), integers())
    tap.detach()
    assert tap.detach() is None
    assert "forward" not in layer.__dict__


def test_second_attach_is_refused_and_leaves_the_first():
    layer, tap = gru_and_tap()
    tap.attach(torch.ones(1, HIDDEN), integers(0), integers(1))
    with pytest.raises(MPTTError, match=r"encoder\.gru has a tap attached already"):
        tap.attach(None, integers(), integers())
    layer(torch.randn(1, 4, INPUTS))
    assert tap.detach().shape == (1, HIDDEN)
    assert "forward" not in layer.__dict__


def test_copy_and_pickle_after_detach_know_nothing_of_the_tap():
    layer, tap = gru_and_tap()
    tap.attach(torch.ones(1, HIDDEN), integers(0), integers(1))
    layer(torch.randn(1, 4, INPUTS))
    tap.detach()
    other = copy.deepcopy(layer)
    assert "forward" not in other.__dict__
    inputs = torch.randn(2, 3, INPUTS)
    assert torch.equal(other(inputs)[0], layer(inputs)[0])
    file = io.BytesIO()
    torch.save(layer, file)
    assert b"Tap" not in file.getvalue()


def test_hooks_of_the_layer_run_once_though_it_is_cut():
    layer, tap = gru_and_tap(num_layers=2)
    outputs = []
    layer.register_forward_hook(lambda module, inputs, output: outputs.append(output[0]))
    tap.attach(None, integers(0, 0, 0), integers(1, 3, 4))
    output, _ = layer(torch.randn(1, 8, INPUTS))
    tap.detach()
    assert len(outputs) == 1
    assert outputs[0] is output


def test_layer_called_by_keyword_works_as_without_the_tap():
    layer, tap = gru_and_tap()
    inputs = torch.randn(2, 4, INPUTS)
    expected, _ = layer(input=inputs)
    tap.attach(torch.zeros(2, HIDDEN), integers(0), integers(1))
    output, _ = layer(input=inputs, hx=None)
    assert tap.detach() is not None
    torch.testing.assert_close(output, expected)


def test_tap_is_empty_when_the_layer_was_not_called():
    layer, tap = gru_and_tap()
    tap.attach(torch.zeros(1, HIDDEN), integers(0), integers(1))
    layer(torch.randn(1, 4, INPUTS))
    assert tap.detach() is not None
    tap.attach(torch.zeros(1, HIDDEN), integers(0), integers(1))
    assert tap.detach() is None


def test_last_call_wins():
    layer, tap = gru_and_tap()
    tap.attach(torch.zeros(1, HIDDEN), integers(0), integers(2))
    layer(torch.randn(1, 4, INPUTS))
    output, _ = layer(torch.randn(1, 4, INPUTS))
    assert torch.equal(tap.detach()[0], output[0, 2].detach())


def test_a_call_without_gradient_is_caught_only_where_none_has_one():
    layer, tap = gru_and_tap()
    tap.attach(torch.ones(1, HIDDEN), integers(0), integers(2))
    with torch.no_grad():
        ahead, _ = layer(torch.randn(1, 4, INPUTS))
    assert torch.equal(tap.detach()[0], ahead[0, 2])
    tap.attach(torch.ones(1, HIDDEN), integers(0), integers(2))
    output, _ = layer(torch.randn(1, 4, INPUTS))
    with torch.no_grad():
        layer(torch.randn(1, 4, INPUTS))
    caught = tap.detach()
    assert torch.equal(caught[0], output[0, 2].detach())
    assert not torch.equal(caught[0], ahead[0, 2])


def test_look_ahead_without_gradient_starts_from_the_initial_state_too():
    layer, tap = gru_and_tap()
    inputs, initial = torch.randn(1, 4, INPUTS), torch.ones(1, HIDDEN)
    expected, _ = step_by_step(layer, inputs, initial)
    tap.attach(initial, integers(), integers())
    with torch.no_grad():
        output, _ = layer(inputs)
    tap.detach()
    torch.testing.assert_close(output, expected.detach(), rtol=0, atol=1e-6)


def test_evaluation_without_gradient_is_caught():
    layer, tap = gru_and_tap()
    layer.eval()
    tap.attach(torch.ones(1, HIDDEN), integers(0), integers(2))
    with torch.no_grad():
        output, _ = layer(torch.randn(1, 4, INPUTS))
    assert torch.equal(tap.detach()[0], output[0, 2])


@pytest.mark.parametrize("layers", [1, 2])
def test_activation_checkpointing_is_caught_when_recomputed(layers):
    layer, tap = gru_and_tap(num_layers=layers)
    inputs = torch.randn(2, 4, INPUTS, requires_grad=True)
    tap.attach(torch.ones(2, layers * HIDDEN), integers(0, 1), integers(2, 0))
    output, _ = checkpoint(layer, inputs, use_reentrant=True)
    output.sum().backward()
    caught = tap.detach()
    assert torch.equal(caught[:, -HIDDEN:], output[[0, 1], [2, 0]].detach())


def test_caught_states_do_not_change_with_the_output():
    layer, tap = gru_and_tap()
    tap.attach(torch.ones(1, HIDDEN), integers(0), integers(3))
    output, _ = layer(torch.randn(1, 4, INPUTS))
    expected = output[0, 3].detach().clone()
    with torch.no_grad():
        output.zero_()
    assert torch.equal(tap.detach()[0], expected)


# ---------------------------------------------------------------- what a tap refuses


@pytest.mark.parametrize("cls", [nn.RNN, nn.GRU, nn.LSTM])
def test_bidirectional_layer_is_refused(cls):
    with pytest.raises(MPTTError, match=r"encoder\.gru is bidirectional.*rnn="):
        Tap(cls(INPUTS, HIDDEN, bidirectional=True), "encoder.gru")


def refused(inputs, message, *, batch=2, steps=None, initial=True, batch_first=True, **kwargs):
    layer = nn.GRU(INPUTS, HIDDEN, batch_first=batch_first)
    tap = Tap(layer, "encoder.gru")
    tap.attach(torch.zeros(batch, HIDDEN) if initial else None, integers(0), integers(0), steps=steps)
    with pytest.raises(MPTTError, match=rf"encoder\.gru.*{message}"):
        layer(inputs, **kwargs)
    assert tap.detach() is None


def test_packed_sequence_is_refused():
    packed = pack_padded_sequence(torch.randn(2, 4, INPUTS), torch.tensor([4, 2]), batch_first=True)
    refused(packed, r"PackedSequence.*state_size=")


def test_initial_state_of_the_modules_own_is_refused():
    refused(torch.randn(2, 4, INPUTS), r'batch\["h0"\]', hx=torch.zeros(1, 2, HIDDEN))


def test_input_without_a_batch_is_refused():
    refused(torch.randn(4, INPUTS), r"shape \(4, 3\).*3-d")


@pytest.mark.parametrize("batch_first", [True, False])
def test_other_number_of_rows_is_refused(batch_first):
    inputs = torch.randn(3, 4, INPUTS) if batch_first else torch.randn(4, 3, INPUTS)
    refused(inputs, rf"batch of 3 rows.*has 2 windows \(batch_first={batch_first}\)", batch_first=batch_first)


def test_batch_in_the_wrong_order_is_refused():
    refused(torch.randn(2, 4, INPUTS), r"batch of 4 rows.*has 2 windows \(batch_first=False\)", batch_first=False)


@pytest.mark.parametrize("initial", [True, False], ids=["message", "zeros"])
@pytest.mark.parametrize("batch_first", [True, False])
def test_other_number_of_steps_is_refused(batch_first, initial):
    inputs = torch.randn(2, 1, INPUTS) if batch_first else torch.randn(1, 2, INPUTS)
    refused(inputs, r"with 1 steps.*have 4, 6.*explicit mode", steps=[6, 4], batch_first=batch_first, initial=initial)


def test_any_of_the_steps_given_is_taken():
    layer, tap = gru_and_tap()
    tap.attach(torch.zeros(2, HIDDEN), integers(0), integers(3), steps=iter([4, 6]))
    for steps in (6, 4, 6):
        layer(torch.randn(2, steps, INPUTS))
    assert tap.detach() is not None


@settings(max_examples=40, deadline=None)
@given(
    follows=st.lists(st.booleans(), min_size=0, max_size=7),
    steps=st.integers(1, 5),
    kind=st.sampled_from(["gru", "steps first", "two-layer lstm"]),
    seed=st.integers(0, 99),
)
def test_rows_that_follow_start_where_the_row_before_ends(
    follows: list[bool], steps: int, kind: str, seed: int
) -> None:
    torch.manual_seed(seed)
    layers = {"gru": nn.GRU(2, 3, batch_first=True), "steps first": nn.GRU(2, 3)}
    layer = layers[kind] if kind in layers else nn.LSTM(2, 3, 2, batch_first=True)
    order = torch.tensor([False, *follows])
    inputs, initial = torch.randn(len(order), steps, 2), torch.randn(len(order), state_size(layer))
    given_inputs = inputs if layer.batch_first else inputs.transpose(0, 1)
    found = chain(layer, given_inputs, initial, order)
    state = initial[:1]
    with torch.no_grad():
        for row in range(len(order)):
            state = state if order[row] else initial[row : row + 1]
            assert torch.allclose(found[row], state[0], rtol=0, atol=1e-6)
            one = inputs[row : row + 1] if layer.batch_first else inputs[row : row + 1].transpose(0, 1)
            state = flatten_state(layer(one, unflatten_state(layer, state))[1])
    assert not found.requires_grad


def test_a_chain_is_run_by_the_forward_given_and_ends_in_its_dtype():
    layer = nn.GRU(2, 3, batch_first=True).double()
    inputs, initial = torch.randn(2, 4, 2, dtype=torch.float64), torch.rand(2, 3)
    found = chain(layer, inputs, initial, torch.tensor([False, True]), lambda x, hx: layer.forward(-x, hx))
    expected = layer(-inputs[:1], initial[:1].double().unsqueeze(0))[1][0, 0]
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, torch.stack([initial[0].double(), expected.detach()]), rtol=0, atol=1e-12)
