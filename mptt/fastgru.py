"""A GRU that goes through time in one compiled loop on the CPU."""

from __future__ import annotations

import functools
import importlib.util
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from mptt.errors import MPTTError

# Multiplications that a second thread is worth the handing over for, some 50 microseconds of work.
_WORTH_A_THREAD = 1_000_000

# Parts of a batch, at most. Not by the number of threads: sums over parts are the same with any, and a thread whose
# core is busy elsewhere leaves more of them to the others.
_PARTS = 32


class FastGRU(nn.GRU):
    """nn.GRU, several times faster on the CPU, in training and without gradient.

    Its parameters, their names and initial values, its arguments and its results are nn.GRU's, to rounding, dropout
    drawn alike: each loads the other's `state_dict`, and what works on an nn.GRU works on this. Batches in float32 and
    float64 on the CPU go through compiled loops, in as many threads as `torch.get_num_threads()`; results do not depend
    on how many. All else runs nn.GRU's own code: other devices and dtypes, autocast, a PackedSequence, unbatched or
    empty input, torch.compile, tracing, torch.func and forward-mode derivatives, as do second derivatives.

    The first call with a dtype compiles for some seconds. The result is kept beside the package, or in the user's cache
    where that cannot be written; the environment variable NUMBA_CACHE_DIR names another folder.

    Args:
        *args: of nn.GRU: `input_size, hidden_size, num_layers, bias, batch_first, dropout`.
        **kwargs: likewise.

    Raises:
        MPTTError: numba is not installed; `bidirectional`.

    Example:
        >>> gru = FastGRU(7, 32, batch_first=True)
        >>> output, final = gru(torch.randn(64, 366, 7))
        >>> output.shape, final.shape
        (torch.Size([64, 366, 32]), torch.Size([1, 64, 32]))
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        _kernels()
        super().__init__(*args, **kwargs)
        if self.bidirectional:
            raise MPTTError("FastGRU runs in one direction, found bidirectional=True. Use nn.GRU.")

    # Names as torch's, so that a call by keyword still works.
    def forward(self, input: Any, hx: Any = None) -> Any:
        """Outputs and final states (layers, B, H), as of nn.GRU."""
        return fast_forward(self, input, hx)


def is_installed() -> bool:
    """Whether there is a numba."""
    return importlib.util.find_spec("numba") is not None


def fast_forward(gru: nn.GRU, input: Any, hx: Any = None) -> Any:
    """What nn.GRU's forward gives, of any nn.GRU of one direction, through the compiled loops where they can do it.

    Raises:
        MPTTError: numba is not installed.
    """
    weights = [getattr(gru, name) for names in gru._all_weights for name in names]
    if not _is_for_kernels(input, hx, weights):
        return nn.GRU.forward(gru, input, hx)
    rows = input if gru.batch_first else input.transpose(0, 1)
    if hx is None:
        hx = input.new_zeros(gru.num_layers, len(rows), gru.hidden_size)
    gru.check_forward_args(input, hx, None)
    each = len(weights) // gru.num_layers
    finals = []
    for number in range(gru.num_layers):
        if number and gru.training and gru.dropout:
            rows = _dropped(rows, gru.dropout)
        rows, final = _run(rows, hx[number], *weights[number * each : (number + 1) * each])
        finals.append(final)
    return rows if gru.batch_first else rows.transpose(0, 1), torch.stack(finals)


class _Layer(torch.autograd.Function):
    """One layer through time: x (B, L, F) and h0 (B, H) to states (B, L, H) and the last of them (B, H)."""

    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        states = _forward(tensors)
        ctx.save_for_backward(*tensors, states)
        ctx.set_materialize_grads(False)
        return states, states[:, -1].clone()

    @staticmethod
    def backward(ctx: Any, d_states: Tensor | None, d_final: Tensor | None) -> tuple[Tensor | None, ...]:
        *tensors, states = ctx.saved_tensors
        # With grad mode on, somebody will differentiate this.
        if torch.is_grad_enabled() or torch._C._are_functorch_transforms_active():
            return _backward_of_torch(tensors, ctx.needs_input_grad, d_states, d_final)
        return _backward(tuple(tensors), states, ctx.needs_input_grad, d_states, d_final)


def _is_for_kernels(input: Any, hx: Any, weights: list[Tensor]) -> bool:
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # type: ignore[attr-defined]
        return False
    if torch.is_autocast_enabled("cpu") or torch._C._are_functorch_transforms_active():
        return False
    tensors = [input, *weights] if hx is None else [input, hx, *weights]
    return all(_is_plain(tensor) and tensor.dtype == weights[0].dtype for tensor in tensors) and (
        input.dim() == 3 and input.numel() > 0 and (hx is None or hx.dim() == 3)
    )


def _is_plain(tensor: Any) -> bool:
    return (
        type(tensor) in (Tensor, nn.Parameter)
        and tensor.device.type == "cpu"
        and tensor.dtype in (torch.float32, torch.float64)
        and tensor.layout == torch.strided
        and forward_ad.unpack_dual(tensor).tangent is None
    )


def _dropped(rows: Tensor, probability: float) -> Tensor:
    # nn.GRU draws over (L, B, H): drawn in that order, the same seed drops the same.
    kept = torch.ones_like(rows.detach().transpose(0, 1), memory_format=torch.contiguous_format)
    return rows * nn.functional.dropout(kept, probability).transpose(0, 1)


def _run(*tensors: Tensor) -> tuple[Tensor, Tensor]:
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        return _Layer.apply(*tensors)
    states = _forward(tensors)
    return states, states[:, -1].clone()


def _forward(tensors: tuple[Tensor, ...]) -> Tensor:
    x, h0 = tensors[:2]
    states = x.new_empty(*x.shape[:2], h0.shape[1])
    _over_rows(_kernels().forward, (x, h0, *_packed(*tensors[2:]), states), _work(tensors))
    return states


def _backward(
    tensors: tuple[Tensor, ...],
    states: Tensor,
    needed: tuple[bool, ...],
    d_states: Tensor | None,
    d_final: Tensor | None,
) -> tuple[Tensor | None, ...]:
    x, h0, weight_ih, weight_hh = tensors[:4]
    parts, size = -(-len(x) // _share(len(x))), h0.shape[1]
    if d_states is None:
        d_states = torch.zeros_like(states)
    d_h = torch.zeros_like(h0) if d_final is None else d_final.clone(memory_format=torch.contiguous_format)
    shapes = [x.shape, (parts, x.shape[2], 3 * size), (parts, size, 3 * size), (parts, 4 * size)]
    wanted = [needed[0], needed[2], needed[3], any(needed[4:])]
    sums = [x.new_zeros(shape if want else [0] * len(shape)) for shape, want in zip(shapes, wanted, strict=True)]
    arguments = (x, h0, *_packed(*tensors[2:]), states, weight_ih, _mrz(weight_hh), d_states, d_h, *sums)
    _over_rows(_kernels().backward, arguments, 4 * _work(tensors))

    d_x, d_from_x, d_from_h, d_bias = (sums[0], *(of_parts.sum(0).t() for of_parts in sums[1:]))
    gradients = [d_x, d_h, d_from_x, _rzm(d_from_h), d_bias[size:], _rzm(d_bias[: 3 * size])]
    return tuple(gradient if need else None for gradient, need in zip(gradients, needed, strict=False))


def _packed(weight_ih: Tensor, weight_hh: Tensor, *biases: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Weights from x (F, 3H) to the gates (r, z, n), from h (H, 3H) to (m, r, z), and biases (4H) of (m, r, z, n)."""
    size = weight_hh.shape[1]
    bias = weight_hh.new_zeros(4 * size)
    if biases:
        bias[size:] += biases[0]
        bias[: 3 * size] += _mrz(biases[1])
    return weight_ih.t(), _mrz(weight_hh).t(), bias


def _work(tensors: tuple[Tensor, ...]) -> int:
    x, _, weight_ih, weight_hh = tensors[:4]
    return x.shape[0] * x.shape[1] * (weight_ih.numel() + weight_hh.numel())


def _backward_of_torch(
    tensors: list[Tensor], needed: tuple[bool, ...], d_states: Tensor | None, d_final: Tensor | None
) -> tuple[Tensor | None, ...]:
    with torch.enable_grad():
        # Views of their own: where one tensor was made from another, or is it, their gradients stay apart.
        x, h0, *weights = inputs = [tensor.view_as(tensor) for tensor in tensors]
        states, final = torch.gru(x, h0.unsqueeze(0), weights, len(weights) == 4, 1, 0.0, True, False, True)
        pairs = [(a, d) for a, d in ((states, d_states), (final[0], d_final)) if d is not None]
        wanted = [tensor for tensor, need in zip(inputs, needed, strict=True) if need]
        outputs, gradients = zip(*pairs, strict=True)
        found = iter(torch.autograd.grad(outputs, wanted, gradients, create_graph=True))
    return tuple(next(found) if need else None for need in needed)


def _mrz(rows: Tensor) -> Tensor:
    """Rows in nn.GRU's order (r, z, n) in that of the kernels' (m, r, z)."""
    size = len(rows) // 3
    return rows.roll(size, 0)


def _rzm(rows: Tensor) -> Tensor:
    size = len(rows) // 3
    return rows.roll(-size, 0)


def _share(rows: int) -> int:
    group = _kernels().GROUP
    return group * -(-rows // (group * _PARTS))


def _over_rows(kernel: Callable[..., None], tensors: tuple[Tensor, ...], work: int) -> None:
    """Run a kernel over all rows of a batch, in parts that threads take as they come.

    Args:
        kernel: called with arrays, the number of the part and the number of rows in one.
        tensors: those that it writes to are contiguous; the first has a row for each of the batch.
        work: multiplications to be done.
    """
    arrays = [tensor.detach().contiguous().numpy() for tensor in tensors]
    share = _share(len(arrays[0]))
    todo = deque(range(-(-len(arrays[0]) // share)))

    def work_off() -> None:
        while True:
            try:
                part = todo.popleft()
            except IndexError:
                return
            kernel(*arrays, part, share)

    threads = min(torch.get_num_threads(), len(todo), work // _WORTH_A_THREAD)
    helpers = [_pool(torch.get_num_threads() - 1, os.getpid()).submit(work_off) for _ in range(threads - 1)]
    work_off()
    for helper in helpers:
        if not helper.cancel():
            helper.result()


# By process: threads do not survive a fork.
@functools.lru_cache(maxsize=1)
def _pool(workers: int, process: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers, thread_name_prefix="fastgru")


@functools.cache
def _kernels() -> ModuleType:
    try:
        from mptt import grukernels
    except ImportError as error:
        raise MPTTError(
            f'FastGRU needs numba, which cannot be imported ({error}): pip install "mptt[fast]", or use nn.GRU.'
        ) from error
    return grukernels
