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

# Rows that go through time together, so that a weight is loaded once for all of them.
GROUP = 4

# A product and a sum may be one instruction. Nothing else of "fast": NaN stays NaN, sums keep their order.
_OPTIONS: dict[str, Any] = {"nogil": True, "fastmath": {"contract"}, "error_model": "numpy"}


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

    # x = n ln 2 + r; the polynomial of Cephes' expf gives q = exp(r) - 1. No call and no branch: whole vectors at a time.
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
def _sigmoid(x: Any, one: Any) -> Any:
    return one / (_expm1(-x) + one + one)


@_compiled
def _tanh(x: Any, one: Any) -> Any:
    e = _expm1(x + x)
    return e / (e + one + one)


@_compiled
def _add_product(sums: Any, values: Any, weights: Any) -> None:
    """sums (K,) += values (J,) @ weights (J, K)."""
    whole = len(weights) // 4 * 4
    for j in range(0, whole, 4):
        w0, w1, w2, w3 = weights[j], weights[j + 1], weights[j + 2], weights[j + 3]
        a0, a1, a2, a3 = values[j], values[j + 1], values[j + 2], values[j + 3]
        for k in range(len(sums)):
            sums[k] += a0 * w0[k] + a1 * w1[k] + a2 * w2[k] + a3 * w3[k]
    for j in range(whole, len(weights)):
        w0, a0 = weights[j], values[j]
        for k in range(len(sums)):
            sums[k] += a0 * w0[k]


@_compiled
def _add_products(
    sums_a: Any, sums_b: Any, sums_c: Any, sums_d: Any, a: Any, b: Any, c: Any, d: Any, weights: Any
) -> None:
    """`_add_product` of a group of rows: a weight is loaded once for four of them."""
    whole = len(weights) // 4 * 4
    for j in range(0, whole, 4):
        w0, w1, w2, w3 = weights[j], weights[j + 1], weights[j + 2], weights[j + 3]
        a0, a1, a2, a3 = a[j], a[j + 1], a[j + 2], a[j + 3]
        b0, b1, b2, b3 = b[j], b[j + 1], b[j + 2], b[j + 3]
        c0, c1, c2, c3 = c[j], c[j + 1], c[j + 2], c[j + 3]
        d0, d1, d2, d3 = d[j], d[j + 1], d[j + 2], d[j + 3]
        for k in range(len(sums_a)):
            u0, u1, u2, u3 = w0[k], w1[k], w2[k], w3[k]
            sums_a[k] += a0 * u0 + a1 * u1 + a2 * u2 + a3 * u3
            sums_b[k] += b0 * u0 + b1 * u1 + b2 * u2 + b3 * u3
            sums_c[k] += c0 * u0 + c1 * u1 + c2 * u2 + c3 * u3
            sums_d[k] += d0 * u0 + d1 * u1 + d2 * u2 + d3 * u3
    for j in range(whole, len(weights)):
        w0, a0, b0, c0, d0 = weights[j], a[j], b[j], c[j], d[j]
        for k in range(len(sums_a)):
            sums_a[k] += a0 * w0[k]
            sums_b[k] += b0 * w0[k]
            sums_c[k] += c0 * w0[k]
            sums_d[k] += d0 * w0[k]


@_compiled
def forward(
    x: Any, h0: Any, from_x: Any, from_h: Any, bias: Any, states: Any, gates: Any, begin: int, end: int
) -> None:
    """Run rows begin .. end-1 through time.

    Args:
        x: (B, L, F) inputs.
        h0: (B, H) initial states.
        from_x: (F, 3H) weights from x to (r, z, n).
        from_h: (H, 3H) weights from h to (m, r, z).
        bias: (4H,) of (m, r, z, n).
        states: (B, L, H), written: the state after each step.
        gates: (B, L, 4H), written: (m, r, z, n); or (B, 1, 4H), where each step overwrites the one before.
        begin: first row.
        end: row after the last.
    """
    one = bias.dtype.type(1)
    size, keep = h0.shape[1], gates.shape[1] == x.shape[1]
    for first in range(begin, end, GROUP):
        last = min(first + GROUP, end)
        for t in range(x.shape[1]):
            at = t if keep else 0
            for row in range(first, last):
                gates[row, at, :] = bias
            if last - first == GROUP:
                b, c, d = first + 1, first + 2, first + 3
                ga, gb, gc, gd = gates[first, at], gates[b, at], gates[c, at], gates[d, at]
                _add_products(
                    ga[size:], gb[size:], gc[size:], gd[size:], x[first, t], x[b, t], x[c, t], x[d, t], from_x
                )
                ha, hb, hc, hd = h0[first], h0[b], h0[c], h0[d]
                if t > 0:
                    ha, hb, hc, hd = states[first, t - 1], states[b, t - 1], states[c, t - 1], states[d, t - 1]
                until = 3 * size
                _add_products(ga[:until], gb[:until], gc[:until], gd[:until], ha, hb, hc, hd, from_h)
            else:
                for row in range(first, last):
                    _add_product(gates[row, at, size:], x[row, t], from_x)
                    _add_product(gates[row, at, : 3 * size], states[row, t - 1] if t > 0 else h0[row], from_h)
            for row in range(first, last):
                m, r, z, n = _gates_of(gates[row, at], size)
                h, before = states[row, t], states[row, t - 1] if t > 0 else h0[row]
                for i in range(size):
                    r[i] = _sigmoid(r[i], one)
                    z[i] = _sigmoid(z[i], one)
                    n[i] = _tanh(n[i] + r[i] * m[i], one)
                    h[i] = n[i] + z[i] * (before[i] - n[i])


@_compiled
def backward(
    gates: Any,
    states: Any,
    h0: Any,
    from_h: Any,
    d_states: Any,
    d_h: Any,
    d_gates: Any,
    begin: int,
    end: int,
) -> None:
    """Run the gradients of rows begin .. end-1 back through time.

    Args:
        gates: (B, L, 4H) as of `forward`.
        states: (B, L, H) as of `forward`.
        h0: (B, H) initial states.
        from_h: (3H, H) weights from h to (m, r, z), transposed.
        d_states: (B, L, H) gradients of the states as outputs.
        d_h: (B, H) gradients of the last states, overwritten by those of the initial states.
        d_gates: (B, L, 4H), written: gradients of m and, before their functions, of r, z, n.
        begin: first row.
        end: row after the last.
    """
    one = gates.dtype.type(1)
    size = h0.shape[1]
    for first in range(begin, end, GROUP):
        last = min(first + GROUP, end)
        for t in range(gates.shape[1] - 1, -1, -1):
            for row in range(first, last):
                m, r, z, n = _gates_of(gates[row, t], size)
                dm, dr, dz, dn = _gates_of(d_gates[row, t], size)
                dh, d_state, before = d_h[row], d_states[row, t], states[row, t - 1] if t > 0 else h0[row]
                for i in range(size):
                    total = dh[i] + d_state[i]
                    dn[i] = total * (one - z[i]) * (one - n[i] * n[i])
                    dm[i] = dn[i] * r[i]
                    dr[i] = dn[i] * m[i] * r[i] * (one - r[i])
                    dz[i] = total * (before[i] - n[i]) * z[i] * (one - z[i])
                    dh[i] = total * z[i]
            until = 3 * size
            if last - first == GROUP:
                b, c, d = first + 1, first + 2, first + 3
                ga, gb, gc, gd = d_gates[first, t], d_gates[b, t], d_gates[c, t], d_gates[d, t]
                _add_products(
                    d_h[first], d_h[b], d_h[c], d_h[d], ga[:until], gb[:until], gc[:until], gd[:until], from_h
                )
            else:
                for row in range(first, last):
                    _add_product(d_h[row], d_gates[row, t, :until], from_h)


@_compiled
def _gates_of(row: Any, size: int) -> Any:
    return row[:size], row[size : 2 * size], row[2 * size : 3 * size], row[3 * size :]
