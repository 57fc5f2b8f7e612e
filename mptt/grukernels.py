"""The loops of a GRU over time, compiled by numba: what `FastGRU` runs. Imported only where numba is installed.

The gates of a step lie in the order (m, r, z, n): m = W_hn h + b_hn is what the reset gate r scales, z the update gate,
n the new state. What h contributes to, (m, r, z), and what x contributes to, (r, z, n), then each lie together.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import overload

# Rows that go through time together, so that a weight is loaded once for all of them: as many as `_add_product` takes.
GROUP = 4

# Steps that a backward pass works on at a time, whose gates stay in the cache.
_BLOCK = 16

# A product and a sum may be one instruction. Nothing else of "fast": NaN stays NaN, sums keep their order.
_OPTIONS: Any = {"nogil": True, "fastmath": {"contract"}, "error_model": "numpy"}


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    try:
        return njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:  # nowhere to write, neither beside this file nor in the user's cache: compile in each process
        return njit(**_OPTIONS)(function)


def _expm1(x: Any) -> Any:
    raise NotImplementedError("for compiled code only")


@overload(_expm1, jit_options=_OPTIONS)
def _expm1_of(x: Any) -> Callable[..., Any]:
    """exp(x) - 1, with x taken into -80 .. 80, where all is finite and a gate long open or shut."""
    if x != types.float32:

        def expm1_of_libm(x: Any) -> Any:
            x = 80.0 if x > 80.0 else x
            return math.expm1(-80.0 if x < -80.0 else x)

        return expm1_of_libm

    largest, one, log2_e = np.float32(80), np.float32(1), np.float32(1 / math.log(2))
    ln2_high, ln2_low = np.float32(0.693145751953125), np.float32(math.log(2) - 0.693145751953125)
    c2, c3, c4 = np.float32(5.0000001201e-1), np.float32(1.6666665459e-1), np.float32(4.1665795894e-2)
    c5, c6, c7 = np.float32(8.3334519073e-3), np.float32(1.3981999507e-3), np.float32(1.9875691500e-4)
    # Added to this, a number is rounded and its integer value is in the last bits.
    shift, exponent_bias, mantissa_bits = np.float32(1.5 * 2**23), np.int32(127 << 23), np.int32(23)

    # x = n ln 2 + r; the polynomial of Cephes' expf gives q = exp(r) - 1. No call, no branch: whole vectors at a time.
    def expm1(x: Any) -> Any:
        x = largest if x > largest else x
        x = -largest if x < -largest else x
        shifted = np.float32(x * log2_e + shift)
        n = shifted - shift
        r = (x - n * ln2_high) - n * ln2_low
        q = ((((((c7 * r + c6) * r + c5) * r + c4) * r + c3) * r + c2) * r) * r + r
        bits = np.int32(np.float32(shifted).view(np.int32))
        power = np.int32(np.int32(bits << mantissa_bits) + exponent_bias).view(np.float32)
        return power * q + (power - one)

    return expm1


@_compiled
def _activate(gates: Any) -> None:
    """Put the functions of r, z and n in the place of their arguments: sigmoid(r), sigmoid(z), tanh(n + r m)."""
    one, size = gates.dtype.type(1), len(gates) // 4
    m, r, z, n = _split(gates, size)
    for i in range(size):
        r[i] = one / (_expm1(-r[i]) + one + one)
        z[i] = one / (_expm1(-z[i]) + one + one)
        e = _expm1(n[i] + r[i] * m[i] + n[i] + r[i] * m[i])
        n[i] = e / (e + one + one)


@_compiled
def _differentiate(gates: Any, before: Any, d_h: Any, d_state: Any) -> None:
    """Put gradients of m and of the functions' arguments in the place of (m, r, z, n), and pass on z's share of d_h.

    Args:
        gates: (4H,) as `_activate` leaves them.
        before: (H,) state before the step.
        d_h: (H,) gradient of the state after it, from the steps that follow; overwritten.
        d_state: (H,) the same, of the state as an output.
    """
    one, size = gates.dtype.type(1), len(before)
    m, r, z, n = _split(gates, size)
    # In short loops: vectors are made of one only where few arrays have to be told apart.
    for i in range(size):
        d_h[i] += d_state[i]
    for i in range(size):
        total, update, new = d_h[i], z[i], n[i]
        d_h[i] = total * update
        z[i] = total * (before[i] - new) * update * (one - update)
        n[i] = total * (one - update) * (one - new * new)
    for i in range(size):
        reset, d_new = r[i], n[i]
        r[i] = d_new * m[i] * reset * (one - reset)
        m[i] = d_new * reset


@_compiled
def _add_product(sums: Any, sums_from: int, values: Any, weights: Any, weights_from: int, width: int) -> None:
    """Add values (R, J) @ weights (J, K) to sums (R, K), for K of `width` columns of each from a first one."""
    rows, inner = values.shape
    to, weights_to = sums_from + width, weights_from + width
    # Four by four: each number that is loaded is used four times.
    whole_rows, whole_inner = rows // 4 * 4, inner // 4 * 4
    for i in range(0, whole_rows, 4):
        a, b, c, d = values[i], values[i + 1], values[i + 2], values[i + 3]
        sum_a, sum_b = sums[i, sums_from:to], sums[i + 1, sums_from:to]
        sum_c, sum_d = sums[i + 2, sums_from:to], sums[i + 3, sums_from:to]
        for j in range(0, whole_inner, 4):
            w0, w1 = weights[j, weights_from:weights_to], weights[j + 1, weights_from:weights_to]
            w2, w3 = weights[j + 2, weights_from:weights_to], weights[j + 3, weights_from:weights_to]
            a0, a1, a2, a3 = a[j], a[j + 1], a[j + 2], a[j + 3]
            b0, b1, b2, b3 = b[j], b[j + 1], b[j + 2], b[j + 3]
            c0, c1, c2, c3 = c[j], c[j + 1], c[j + 2], c[j + 3]
            d0, d1, d2, d3 = d[j], d[j + 1], d[j + 2], d[j + 3]
            for k in range(width):
                u0, u1, u2, u3 = w0[k], w1[k], w2[k], w3[k]
                sum_a[k] += a0 * u0 + a1 * u1 + a2 * u2 + a3 * u3
                sum_b[k] += b0 * u0 + b1 * u1 + b2 * u2 + b3 * u3
                sum_c[k] += c0 * u0 + c1 * u1 + c2 * u2 + c3 * u3
                sum_d[k] += d0 * u0 + d1 * u1 + d2 * u2 + d3 * u3
        for j in range(whole_inner, inner):
            w0, a0, b0, c0, d0 = weights[j, weights_from:weights_to], a[j], b[j], c[j], d[j]
            for k in range(width):
                sum_a[k] += a0 * w0[k]
                sum_b[k] += b0 * w0[k]
                sum_c[k] += c0 * w0[k]
                sum_d[k] += d0 * w0[k]
    for i in range(whole_rows, rows):
        a, sum_a = values[i], sums[i, sums_from:to]
        for j in range(0, whole_inner, 4):
            w0, w1 = weights[j, weights_from:weights_to], weights[j + 1, weights_from:weights_to]
            w2, w3 = weights[j + 2, weights_from:weights_to], weights[j + 3, weights_from:weights_to]
            a0, a1, a2, a3 = a[j], a[j + 1], a[j + 2], a[j + 3]
            for k in range(width):
                sum_a[k] += a0 * w0[k] + a1 * w1[k] + a2 * w2[k] + a3 * w3[k]
        for j in range(whole_inner, inner):
            w0, a0 = weights[j, weights_from:weights_to], a[j]
            for k in range(width):
                sum_a[k] += a0 * w0[k]


@_compiled
def forward(x: Any, h0: Any, from_x: Any, from_h: Any, bias: Any, states: Any, part: int, share: int) -> None:
    """Run a part of the rows through time.

    Args:
        x: (B, L, F) inputs.
        h0: (B, H) initial states.
        from_x: (F, 3H) weights from x to (r, z, n).
        from_h: (H, 3H) weights from h to (m, r, z).
        bias: (4H,) of (m, r, z, n).
        states: (B, L, H), written: the state after each step.
        part: which rows: from part * share.
        share: number of rows in a part, a multiple of GROUP.
    """
    size = h0.shape[1]
    end = min((part + 1) * share, len(x))
    gates = np.empty((GROUP, 4 * size), bias.dtype)
    for first in range(part * share, end, GROUP):
        last = min(first + GROUP, end)
        for t in range(x.shape[1]):
            before = states[first:last, t - 1] if t > 0 else h0[first:last]
            for row in range(last - first):
                _copy(bias, gates[row])
            _add_product(gates, size, x[first:last, t], from_x, 0, 3 * size)
            _add_product(gates, 0, before, from_h, 0, 3 * size)
            for row in range(last - first):
                _activate(gates[row])
                _, _, z, n = _split(gates[row], size)
                h, h_before = states[first + row, t], states[first + row, t - 1] if t > 0 else h0[first + row]
                for i in range(size):
                    h[i] = n[i] + z[i] * (h_before[i] - n[i])


@_compiled
def backward(
    x: Any,
    h0: Any,
    from_x: Any,
    from_h: Any,
    bias: Any,
    states: Any,
    to_x: Any,
    to_h: Any,
    d_states: Any,
    d_h: Any,
    d_x: Any,
    d_from_x: Any,
    d_from_h: Any,
    d_bias: Any,
    part: int,
    share: int,
) -> None:
    """Run the gradients of a part of the rows back through time. The gates are computed anew, from the states.

    Args:
        x: as of `forward`, like the five after it.
        h0: initial states.
        from_x: weights.
        from_h: weights.
        bias: of the gates.
        states: after each step.
        to_x: (3H, F) transposed `from_x`.
        to_h: (3H, H) transposed `from_h`.
        d_states: (B, L, H) gradients of the states as outputs.
        d_h: (B, H) gradients of the last states, overwritten by those of the initial states.
        d_x: (B, L, F) zeros that the gradients are added to, or empty where they are not wanted.
        d_from_x: (parts, F, 3H) likewise.
        d_from_h: (parts, H, 3H) likewise.
        d_bias: (parts, 4H) likewise.
        part: which rows: from part * share.
        share: number of rows in a part, a multiple of GROUP.
    """
    size, steps = h0.shape[1], x.shape[1]
    end = min((part + 1) * share, len(x))
    gates = np.empty((GROUP, _BLOCK, 4 * size), bias.dtype)
    before = np.empty((GROUP, _BLOCK, size), bias.dtype)
    for first in range(part * share, end, GROUP):
        last = min(first + GROUP, end)
        for stop in range(steps, 0, -_BLOCK):
            start = max(stop - _BLOCK, 0)
            for row in range(first, last):
                own, own_before = gates[row - first], before[row - first]
                for step in range(stop - start):
                    _copy(bias, own[step])
                    t = start + step
                    _copy(states[row, t - 1] if t > 0 else h0[row], own_before[step])
                _add_product(own, size, x[row, start:stop], from_x, 0, 3 * size)
                _add_product(own, 0, own_before[: stop - start], from_h, 0, 3 * size)
                for step in range(stop - start):
                    _activate(own[step])
            for t in range(stop - 1, start - 1, -1):
                for row in range(first, last):
                    _differentiate(
                        gates[row - first, t - start], before[row - first, t - start], d_h[row], d_states[row, t]
                    )
                _add_product(d_h[first:last], 0, gates[: last - first, t - start, : 3 * size], to_h, 0, size)
            for row in range(first, last):
                own, own_before = gates[row - first, : stop - start], before[row - first, : stop - start]
                if d_x.size:
                    _add_product(d_x[row, start:stop], 0, own[:, size:], to_x, 0, x.shape[2])
                if d_from_x.size:
                    _add_product(d_from_x[part], 0, x[row, start:stop].T, own, size, 3 * size)
                if d_from_h.size:
                    _add_product(d_from_h[part], 0, own_before.T, own, 0, 3 * size)
                if d_bias.size:
                    sums = d_bias[part]
                    for step in range(stop - start):
                        gate = own[step]
                        for i in range(4 * size):
                            sums[i] += gate[i]


@_compiled
def _copy(source: Any, target: Any) -> None:
    # A loop, which becomes a few vector moves; an assignment to a slice first looks into shapes and overlaps.
    for i in range(len(source)):
        target[i] = source[i]


@_compiled
def _split(gates: Any, size: int) -> Any:
    return gates[:size], gates[size : 2 * size], gates[2 * size : 3 * size], gates[3 * size :]
