"""A GRU that goes through time in one compiled loop on the CPU."""

from __future__ import annotations

import functools
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

# Parts of the work for each thread, so that one whose core is busy elsewhere leaves its share to the others.
_PARTS = 4


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
        weights = [getattr(self, name) for names in self._all_weights for name in names]
        if not _is_for_kernels(input, hx, weights):
            return super().forward(input, hx)
        rows = input if self.batch_first else input.transpose(0, 1)
        if hx is None:
            hx = input.new_zeros(self.num_layers, len(rows), self.hidden_size)
        self.check_forward_args(input, hx, None)
        each = len(weights) // self.num_layers
        finals = []
        for number in range(self.num_layers):
            if number and self.training and self.dropout:
                rows = _dropped(rows, self.dropout)
            rows, final = _run(rows, hx[number], *weights[number * each : (number + 1) * each])
            finals.append(final)
        return rows if self.batch_first else rows.transpose(0, 1), torch.stack(finals)


class _Layer(torch.autograd.Function):
    """One layer through time: x (B, L, F) and h0 (B, H) to states (B, L, H) and the last of them (B, H)."""

    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        states, gates = _forward(*tensors, keep=True)
        ctx.save_for_backward(*tensors, states, gates)
        ctx.set_materialize_grads(False)
        return states, states[:, -1].clone()

    @staticmethod
    def backward(ctx: Any, d_states: Tensor | None, d_final: Tensor | None) -> tuple[Tensor | None, ...]:
        *tensors, states, gates = ctx.saved_tensors
        # With grad mode on, somebody will differentiate this.
        if torch.is_grad_enabled() or torch._C._are_functorch_transforms_active():
            return _backward_of_torch(tensors, ctx.needs_input_grad, d_states, d_final)
        return _backward(tensors, states, gates, ctx.needs_input_grad, d_states, d_final)


def _is_for_kernels(input: Any, hx: Any, weights: list[Tensor]) -> bool:
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or torch._C._are_functorch_transforms_active():
        return False
    if torch.is_autocast_enabled("cpu"):
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
    states, _ = _forward(*tensors, keep=False)
    return states, states[:, -1].clone()


def _forward(
    x: Tensor, h0: Tensor, weight_ih: Tensor, weight_hh: Tensor, *biases: Tensor, keep: bool
) -> tuple[Tensor, Tensor]:
    """States (B, L, H) and, where they are to be kept, gates (B, L, 4H)."""
    size = h0.shape[1]
    bias = x.new_zeros(4 * size)
    if biases:
        bias[size:] += biases[0]
        bias[: 3 * size] += _mrz(biases[1])
    states = x.new_empty(*x.shape[:2], size)
    gates = x.new_empty(len(x), x.shape[1] if keep else 1, 4 * size)
    tensors = (x, h0, weight_ih.t(), _mrz(weight_hh).t(), bias, states, gates)
    _over_rows(_kernels().forward, tensors, x.shape[1] * (weight_ih.numel() + weight_hh.numel()))
    return states, gates


def _backward(
    tensors: list[Tensor],
    states: Tensor,
    gates: Tensor,
    needed: tuple[bool, ...],
    d_states: Tensor | None,
    d_final: Tensor | None,
) -> tuple[Tensor | None, ...]:
    x, h0, weight_ih, weight_hh = tensors[:4]
    size = h0.shape[1]
    d_h = torch.zeros_like(h0) if d_final is None else d_final.clone(memory_format=torch.contiguous_format)
    d_gates = torch.empty_like(gates)
    if d_states is None:
        d_states = torch.zeros_like(states)
    work = x.shape[1] * weight_hh.numel()
    _over_rows(_kernels().backward, (gates, states, h0, _mrz(weight_hh), d_states, d_h, d_gates), work)

    steps = d_gates.flatten(0, 1)  # (B L, 4H)
    of_h, of_x = steps[:, : 3 * size], steps[:, size:]
    gradients: list[Tensor | None] = [None] * len(tensors)
    if needed[0]:
        gradients[0] = (of_x @ weight_ih).view_as(x)
    if needed[1]:
        gradients[1] = d_h
    if needed[2]:
        gradients[2] = of_x.t() @ x.flatten(0, 1)
    if needed[3]:
        before = torch.cat([h0.unsqueeze(1), states[:, :-1]], dim=1).flatten(0, 1)
        gradients[3] = _rzm(of_h.t() @ before)
    if any(needed[4:]):
        of_bias = steps.sum(0)
        gradients[4:] = [of_bias[size:], _rzm(of_bias[: 3 * size])]
    return tuple(gradients)


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


def _over_rows(kernel: Callable[..., None], tensors: tuple[Tensor, ...], work: int) -> None:
    """Run a kernel over all rows of a batch, groups of rows shared out to threads.

    Args:
        kernel: called with arrays, first row and row after the last.
        tensors: those that it writes to are contiguous; the first has a row for each of the batch.
        work: multiplications for a row.
    """
    arrays = [tensor.detach().contiguous().numpy() for tensor in tensors]
    rows, group = len(arrays[0]), _kernels().GROUP
    groups = -(-rows // group)
    threads = max(1, min(torch.get_num_threads(), groups, rows * work // _WORTH_A_THREAD))
    parts = min(groups, threads * _PARTS) if threads > 1 else 1
    # Cut between groups: a row meets the same arithmetic however many threads there are.
    bounds = [min(groups * part // parts * group, rows) for part in range(parts + 1)]
    todo = deque(zip(bounds[:-1], bounds[1:], strict=True))

    def work_off() -> None:
        while True:
            try:
                begin, end = todo.popleft()
            except IndexError:
                return
            kernel(*arrays, begin, end)

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
