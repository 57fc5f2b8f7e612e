import copy
import io
import multiprocessing
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.checkpoint import checkpoint

from mptt import MPTTError, fastgru
from mptt.fastgru import FastGRU
from mptt.tap import Tap

pytest.importorskip("numba", reason='the compiled loops need numba: pip install "mptt[fast]"')

INPUTS = 3
RELATIVE = {torch.float32: 1e-5, torch.float64: 1e-12}


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def pair(hidden, dtype=torch.float64, inputs=INPUTS, **kwargs):
    """An nn.GRU and a FastGRU of the same weights, large enough for gates to open and shut."""
    slow = nn.GRU(inputs, hidden, dtype=dtype, **kwargs)
    with torch.no_grad():
        for weight in slow.parameters():
            weight.mul_(2)
    fast = FastGRU(inputs, hidden, dtype=dtype, **kwargs)
    fast.load_state_dict(slow.state_dict())
    return slow, fast


def assert_near(found, expected):
    """Equal relative to the largest number of each tensor."""
    for one, other in zip(found, expected, strict=True):
        scale = other.abs().max().item()
        torch.testing.assert_close(one, other, rtol=0, atol=RELATIVE[other.dtype] * scale)


def everything(layer, x, h0, of_output, of_final):
    """Outputs, final states, and gradients of inputs, initial states and parameters."""
    x, h0 = x.clone().requires_grad_(), h0.clone().requires_grad_()
    torch.manual_seed(1)
    output, final = layer(x, h0)
    loss = (output * of_output).sum() + (final * of_final).sum()
    return [output.detach(), final.detach(), *torch.autograd.grad(loss, [x, h0, *layer.parameters()])]


@pytest.fixture
def no_kernels(monkeypatch):
    """Makes a call of the compiled loops an error."""

    def refuse(*args):
        raise AssertionError("ran compiled loops")

    monkeypatch.setattr(fastgru, "_over_rows", refuse)


@pytest.fixture
def only_kernels(monkeypatch):
    """Makes a call of nn.GRU's own forward an error."""

    def refuse(*args):
        raise AssertionError("ran nn.GRU's forward")

    monkeypatch.setattr(nn.GRU, "forward", refuse)


# ---------------------------------------------------------------- results


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("rows", "steps", "hidden", "options"),
    [
        (1, 1, 1, {}),
        (1, 40, 5, {}),
        (2, 17, 16, {"batch_first": True}),
        (4, 16, 4, {"bias": False}),
        (7, 33, 6, {"num_layers": 3, "batch_first": True}),
        (13, 9, 33, {"num_layers": 2, "bias": False}),
        (133, 3, 2, {"num_layers": 2}),
        (5, 20, 70, {"batch_first": True}),
    ],
    ids=str,
)
def test_results_and_gradients_are_those_of_nn_gru(dtype, rows, steps, hidden, options):
    slow, fast = pair(hidden, dtype, **options)
    shape = (rows, steps) if slow.batch_first else (steps, rows)
    x = 2 * torch.randn(*shape, INPUTS, dtype=dtype)
    h0, of_final = torch.randn(2, slow.num_layers, rows, hidden, dtype=dtype)
    of_output = torch.randn(*shape, hidden, dtype=dtype)
    expected = everything(slow, x, h0, of_output, of_final)
    assert_near(everything(fast, x, h0, of_output, of_final), expected)
    with torch.no_grad():
        assert_near(fast(x, h0), expected[:2])
        assert_near(fast(x), slow(x))


def test_kernels_run_with_and_without_gradient(only_kernels):
    layer = FastGRU(INPUTS, 4)
    x = torch.randn(5, 2, INPUTS)
    layer(x)[0].sum().backward()
    with torch.inference_mode():
        assert layer(input=x, hx=torch.zeros(1, 2, 4))[0].shape == (5, 2, 4)


@pytest.mark.parametrize("batch_first", [False, True])
def test_dropout_between_layers_drops_what_nn_gru_drops(batch_first):
    slow, fast = pair(6, num_layers=3, dropout=0.5, batch_first=batch_first)
    x, h0 = torch.randn(4, 5, INPUTS).double(), torch.randn(3, 4 if batch_first else 5, 6).double()
    of_output, of_final = torch.randn(4, 5, 6).double(), torch.randn_like(h0)
    assert_near(everything(fast, x, h0, of_output, of_final), everything(slow, x, h0, of_output, of_final))
    assert_near(fast.eval()(x, h0), slow.eval()(x, h0))


def test_gates_far_open_and_shut():
    slow, fast = pair(4, torch.float32)
    x = torch.tensor([0.0, 1e-6, 30.0, -30.0, 1e4, -1e4, 1e30, -1e30]).reshape(8, 1, 1).expand(8, 1, INPUTS)
    output, final = fast(x)
    torch.testing.assert_close(output, slow(x)[0], rtol=0, atol=1e-6)
    assert torch.isfinite(final).all()


@pytest.mark.parametrize("which", ["output", "final"])
def test_gradient_of_one_result_alone(which):
    slow, fast = pair(4)
    x = torch.randn(6, 5, INPUTS).double()
    gradients = []
    for layer in (fast, slow):
        result = dict(zip(("output", "final"), layer(x), strict=True))[which]
        gradients.append(torch.autograd.grad(result.square().sum(), list(layer.parameters())))
    assert_near(*gradients)


@pytest.mark.parametrize("learns", ["x", "h0", "weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"])
def test_only_what_requires_a_gradient_gets_one(learns):
    gradients = []
    for layer in pair(4):
        tensors = {"x": torch.ones(6, 5, INPUTS).double(), "h0": torch.ones(1, 5, 4).double()}
        tensors |= dict(layer.named_parameters())
        for name, tensor in tensors.items():
            tensor.requires_grad_(name == learns)
        layer(tensors["x"], tensors["h0"])[0].square().sum().backward()
        assert [name for name, tensor in tensors.items() if tensor.grad is not None] == [learns]
        gradients.append([tensors[learns].grad])
    assert_near(*gradients)


def test_inputs_that_are_not_contiguous():
    slow, fast = pair(4, batch_first=True)
    x = torch.randn(INPUTS, 10, 12).double().permute(1, 2, 0)[::2, ::3]
    h0 = torch.randn(4, 5, 1).double().permute(2, 1, 0)
    of_output, of_final = torch.ones(1, 1, 1).double().expand(5, 4, 4), torch.ones(4, 5, 1).double().permute(2, 1, 0)
    assert_near(everything(fast, x, h0, of_output, of_final), everything(slow, x, h0, of_output, of_final))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nan_stays_in_its_row_and_after_its_step(dtype):
    layer = FastGRU(INPUTS, 5, batch_first=True, dtype=dtype)
    x = torch.randn(6, 4, INPUTS, dtype=dtype)
    clean = layer(x)[0]
    x[2, 1, 0] = torch.nan
    output = layer(x)[0]
    expected = torch.zeros(6, 4, 5, dtype=torch.bool)
    expected[2, 1:] = True
    assert output.isnan().equal(expected)
    assert output[~expected].equal(clean[~expected])


def test_derivatives_are_those_of_finite_differences():
    layer = FastGRU(2, 3, num_layers=2, dtype=torch.float64)
    x, h0 = torch.randn(3, 5, 2, dtype=torch.float64), torch.randn(2, 5, 3, dtype=torch.float64)
    inputs = (x.requires_grad_(), h0.requires_grad_(), *layer.parameters())

    def call(x, h0, *weights):
        names = [name for name, _ in layer.named_parameters()]
        return torch.func.functional_call(layer, dict(zip(names, weights, strict=True)), (x, h0))

    assert gradcheck(call, inputs)
    assert gradgradcheck(call, inputs)


def test_second_derivative_where_the_initial_state_comes_from_the_input():
    found = []
    for layer in pair(4):
        x = torch.linspace(-1, 1, 5 * 2 * INPUTS).double().reshape(5, 2, INPUTS).requires_grad_()
        output, _ = layer(x, x[0, :, :1].expand(2, 4).unsqueeze(0))
        (first,) = torch.autograd.grad(output.square().sum(), x, create_graph=True)
        found.append([first, *torch.autograd.grad(first.square().sum(), [x, *layer.parameters()])])
    assert_near(*found)


# ---------------------------------------------------------------- threads and processes


def test_results_do_not_depend_on_the_number_of_threads():
    layer, x = FastGRU(INPUTS, 32), torch.randn(50, 150, INPUTS)
    found = []
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            found.append(everything(layer, x, torch.zeros(1, 150, 32), torch.ones(50, 150, 32), torch.ones(1, 150, 32)))
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        assert all(a.equal(b) for a, b in zip(found[0], other, strict=True))


def test_several_threads_call_at_once():
    layer = FastGRU(INPUTS, 32)
    batches = [torch.randn(50, 60, INPUTS) for _ in range(8)]

    def gradient(x):
        return torch.autograd.grad(layer(x)[0].square().sum(), list(layer.parameters()))

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(gradient, batches))
    for x, found in zip(batches, together, strict=True):
        assert all(a.equal(b) for a, b in zip(found, gradient(x), strict=True))


def _sum_in_child(layer, x, queue):
    torch.set_num_threads(2)
    with torch.no_grad():
        queue.put(layer(x)[0].sum().item())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_has_threads_of_its_own(monkeypatch):
    monkeypatch.setattr(fastgru, "_WORTH_A_THREAD", 1)
    layer, x = FastGRU(INPUTS, 8), torch.randn(20, 40, INPUTS)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with torch.no_grad():
            expected = layer(x)[0].sum().item()
        context = multiprocessing.get_context("fork")
        queue = context.Queue()
        child = context.Process(target=_sum_in_child, args=(layer, x, queue), daemon=True)
        child.start()
        assert queue.get(timeout=60) == expected
        child.join()
    finally:
        torch.set_num_threads(threads)


# ---------------------------------------------------------------- as an nn.GRU


def test_state_passes_to_nn_gru_and_back_through_a_file():
    slow, fast = nn.GRU(INPUTS, 4, 2), FastGRU(INPUTS, 4, 2)
    for source, target in ((fast, slow), (slow, fast)):
        with torch.no_grad():
            source.weight_hh_l0.add_(1)
        file = io.BytesIO()
        torch.save(source.state_dict(), file)
        file.seek(0)
        target.load_state_dict(torch.load(file, weights_only=True))
        x = torch.randn(5, 2, INPUTS)
        assert_near([target(x)[0].detach()], [source(x)[0].detach()])


def test_initial_weights_are_those_of_nn_gru():
    torch.manual_seed(3)
    expected = nn.GRU(INPUTS, 4).state_dict()
    torch.manual_seed(3)
    found = FastGRU(INPUTS, 4).state_dict()
    assert list(found) == list(expected)
    assert all(found[name].equal(expected[name]) for name in expected)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_copies_have_weights_of_their_own(copied, only_kernels):
    layer, x = FastGRU(INPUTS, 4), torch.randn(5, 2, INPUTS)
    other = copied(layer)
    assert type(other) is FastGRU
    assert other(x)[0].equal(layer(x)[0])
    with torch.no_grad():
        layer.weight_ih_l0.zero_()
    assert not other(x)[0].equal(layer(x)[0])


def test_moves_between_dtypes():
    layer, x = FastGRU(INPUTS, 4), torch.randn(5, 2, INPUTS)
    before = layer(x)[0]
    assert layer.double()(x.double())[0].dtype == torch.float64
    assert layer.to(torch.float32)(x)[0].equal(before)


def test_checkpointed_activations():
    layer, x = FastGRU(INPUTS, 4), torch.randn(5, 2, INPUTS)
    expected = torch.autograd.grad(layer(x)[0].sum(), list(layer.parameters()))
    output, _ = checkpoint(layer, x, use_reentrant=False)
    found = torch.autograd.grad(output.sum(), list(layer.parameters()))
    assert all(a.equal(b) for a, b in zip(found, expected, strict=True))


def test_output_changed_before_the_backward_pass_is_found_out():
    output, _ = FastGRU(INPUTS, 4)(torch.randn(5, 2, INPUTS))
    with torch.no_grad():
        output.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()


@pytest.mark.parametrize("layers", [1, 2])
def test_a_tap_sets_and_catches_states(layers):
    caught = []
    for layer in pair(4, num_layers=layers, batch_first=True):
        tap = Tap(layer, "gru")
        rows, positions = torch.tensor([0, 1, 2]), torch.tensor([4, 0, 2])
        tap.attach(torch.linspace(-1, 1, 3 * 4 * layers).double().reshape(3, -1), rows, positions)
        output, final = layer(torch.linspace(-2, 2, 3 * 5 * INPUTS).double().reshape(3, 5, INPUTS))
        caught.append([output, final, tap.detach()])
    assert_near(*caught)


# ---------------------------------------------------------------- what nn.GRU's own code runs


def test_sequences_and_dtypes_without_loops_run_nn_gru(no_kernels):
    slow, fast = pair(4, torch.float32)
    x = torch.randn(5, 2, INPUTS)
    assert fast(x[:, 0])[0].equal(slow(x[:, 0])[0])
    packed = pack_padded_sequence(x, torch.tensor([5, 3]))
    assert fast(packed)[0].data.equal(slow(packed)[0].data)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert fast(x)[0].equal(slow(x)[0])
    assert fast.bfloat16()(x.bfloat16())[0].equal(slow.bfloat16()(x.bfloat16())[0])
    assert fast.to("meta")(x.to("meta").bfloat16())[0].shape == (5, 2, 4)


def test_forward_mode_runs_nn_gru(no_kernels):
    slow, fast = pair(4)
    x, tangent = torch.randn(2, 5, 2, INPUTS).double()
    with forward_ad.dual_level():
        found, expected = (
            forward_ad.unpack_dual(layer(forward_ad.make_dual(x, tangent))[0]).tangent for layer in (fast, slow)
        )
    assert_near([found], [expected])


def test_transforms_of_functions_run_nn_gru(no_kernels):
    slow, fast = pair(4)
    x = torch.randn(5, 2, INPUTS).double()
    found, expected = (torch.func.grad(lambda x, layer=layer: layer(x)[0].sum())(x) for layer in (fast, slow))
    assert_near([found], [expected])


def test_wrong_shapes_and_dtypes_are_refused_as_by_nn_gru():
    slow, fast = pair(4, torch.float32)
    for arguments in (
        (torch.zeros(5, 2, INPUTS + 1),),
        (torch.zeros(5, 2, INPUTS), torch.zeros(1, 3, 4)),
        (torch.zeros(5, 2, INPUTS), torch.zeros(2, 4)),
        (torch.zeros(0, 2, INPUTS),),
        (torch.zeros(5, 2, INPUTS).double(),),
    ):
        messages = []
        for layer in (fast, slow):
            with pytest.raises((RuntimeError, ValueError)) as caught:
                layer(*arguments)
            messages.append((caught.type, str(caught.value).replace("FastGRU", "GRU")))
        assert messages[0] == messages[1]


def test_two_directions_are_refused():
    with pytest.raises(MPTTError, match="found bidirectional=True"):
        FastGRU(INPUTS, 4, bidirectional=True)


# ---------------------------------------------------------------- numba


def in_a_new_process(code, **environment):
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_without_numba_the_extra_is_named():
    code = """
import sys
sys.modules["numba"] = None
from mptt import MPTTError
from mptt.fastgru import FastGRU
try:
    FastGRU(2, 3)
except MPTTError as error:
    print(error)
"""
    assert 'pip install "mptt[fast]"' in in_a_new_process(code)


def test_numba_is_imported_with_the_first_layer_only():
    code = "import sys, mptt.fastgru; print('numba' in sys.modules)"
    assert in_a_new_process(code).strip() == "False"


def test_compiles_where_no_folder_can_be_written():
    code = """
import os
from numba.core import caching
caching.CacheImpl._locator_classes = []
import torch
from mptt.fastgru import FastGRU
torch.set_num_threads(1)
with torch.no_grad():
    print(FastGRU(2, 3)(torch.zeros(1, 1, 2))[0].shape)
"""
    assert "[1, 1, 3]" in in_a_new_process(code)
