"""Response characterization: what each unit of a recurrent layer, cut off from the others, makes of a step and a sine.

After Hasani et al. (2019, doi:10.1109/ijcnn.2019.8851954, arXiv 1809.03864), with the measures of control theory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mptt.analysis.decoupled import run_alone
from mptt.recurrent import RecurrentLayer, state_size

Array = npt.NDArray[np.float64]
PERIODS = (2, 3, 5, 7, 10, 14, 21, 30, 60, 91, 182, 365, 730, 1825, 3650)
HORIZON = 3650
_AT_ONCE = 2**24  # numbers of outputs that are held
_NOTHING = 1e-9  # a change of the state that is rounding


@dataclass(frozen=True)
class StepResponse:
    """Responses of units U to steps of inputs D.

    Attributes:
        start: (U,) at rest, under the inputs at their base.
        path: (D, T, U) after each step; the first of them is the first with the new input.
    """

    start: Array
    path: Array


def at_rest(alone: RecurrentLayer, base: Tensor, state: Tensor, steps: int = 2 * HORIZON) -> Tensor:
    """The state (1, S) that a layer comes to, from `state` (S,), where its inputs stay at `base` (F,)."""
    _, last = run_alone(alone, base.double().expand(1, steps, -1), state.double().unsqueeze(0))
    return last


def step_response(
    alone: RecurrentLayer, base: Tensor, directions: Tensor, rest: Tensor, horizon: int = HORIZON
) -> StepResponse:
    """Responses to inputs that go from `base` to `base + direction` and stay there.

    Args:
        alone: as of `decouple`.
        base: (F,) inputs before.
        directions: (D, F) what is added to them.
        rest: (1, S) state before, as of `at_rest`.
        horizon: what `step_metrics` looks at; twice as many steps are run.
    """
    paths = []
    for row in directions.double().split(max(_AT_ONCE // (2 * horizon * alone.hidden_size), 1)):
        inputs = (base.double() + row).unsqueeze(1).expand(-1, 2 * horizon, -1)
        paths.append(run_alone(alone, inputs, rest.expand(len(row), -1))[0])
    return StepResponse(rest[0, : alone.hidden_size].numpy(), torch.cat(paths).numpy())


def step_metrics(response: StepResponse, tolerance: float = 0.02) -> dict[str, Array]:
    """How fast, how far and how straight each unit goes to where a step takes it.

    Steps are counted from 0, the state before: a unit without memory is there after 1, h' = a h + x is half way after
    its half-life, rounded up.

    Args:
        response: of twice as many steps as the horizon.
        tolerance: of settling, a part of the whole change.

    Returns:
        (D, U) each: `change` (from start to the steady state, with sign); `delay` (steps to half of it), `rise` (steps
        from a tenth to nine tenths), `settling` (steps after which it stays within the tolerance), `overshoot` (percent
        of the change). A unit that is not settled within the horizon has settling inf and the others NaN; one that
        does not move has change 0, settling 0 and the others NaN.
    """
    path, start = response.path, response.start
    change = path[:, -1] - start
    still = np.abs(path - start[None, None]).max(1) < _NOTHING
    with np.errstate(divide="ignore", invalid="ignore"):
        part = (path - start) / change[:, None]  # (D, T, U) 0 before, 1 in the end
        outside = ~(np.abs(part - 1) <= tolerance)
    steps = path.shape[1]
    last_outside = np.where(outside.any(1), steps - outside[:, ::-1].argmax(1), 0)
    # The end of the run stands for infinity, which it may only where nothing happens for its second half.
    settled = last_outside + 1 <= steps // 2
    known = settled & ~still

    def reached(level: float) -> Array:
        return np.where(known, (part >= level).argmax(1) + 1.0, np.nan)

    return {
        "change": np.where(known, change, np.where(still, 0.0, np.nan)),
        "delay": reached(0.5),
        "rise": reached(0.9) - reached(0.1),
        "settling": np.where(still, 0.0, np.where(settled, last_outside + 1.0, np.inf)),
        "overshoot": np.where(known, 100 * np.maximum(part.max(1, initial=-np.inf) - 1, 0), np.nan),
    }


def frequency_response(
    alone: RecurrentLayer,
    base: Tensor,
    directions: Tensor,
    rest: Tensor,
    sign: Array,
    periods: Sequence[float] = PERIODS,
    horizon: int = HORIZON,
) -> tuple[Array, Array]:
    """Gain and lag of each unit, of inputs that go to and fro around `base`.

    By least squares on the last whole periods.

    Args:
        alone: as of `decouple`.
        base: (F,) middle of the inputs.
        directions: (D, F) how far they go, to either side.
        rest: (1, S) state before.
        sign: (D, U) of the change after a step: a unit that goes down where its input goes up is turned round first.
        periods: in steps, 2 or more, and at most the horizon.
        horizon: steps run before the wave is looked at, and steps of it that are looked at.

    Returns:
        gain (D, P, U), amplitude of the fundamental for an input of amplitude 1; and lag (D, P, U), steps by which
        it follows the input, of -period / 2 to period / 2; NaN where there is no gain.
    """
    period = torch.tensor(periods, dtype=torch.float64)
    wave = 2 * torch.pi * torch.arange(2 * horizon).double() / period.unsqueeze(1)  # (P, T)
    gain = np.empty((len(directions), len(period), alone.hidden_size))
    phase = np.empty_like(gain)
    rows = [(direction, nth) for direction in range(len(directions)) for nth in range(len(period))]
    most = max(_AT_ONCE // (2 * horizon * max(alone.hidden_size, alone.input_size)), 1)
    for first in range(0, len(rows), most):
        here = rows[first : first + most]
        which, nth = (torch.tensor(index) for index in zip(*here, strict=True))
        inputs = base.double() + wave[nth].cos().unsqueeze(2) * directions.double()[which].unsqueeze(1)
        output, _ = run_alone(alone, inputs, rest.expand(len(here), -1))
        for row, (direction, number) in enumerate(here):
            used = int(period[number] * max(int(horizon / period[number]), 1))
            gain[direction, number], phase[direction, number] = _fitted(output[row, -used:], wave[number, -used:])
    phase = phase + np.where(sign < 0, np.pi, 0.0)[:, None]
    phase = np.pi - (np.pi - phase) % (2 * np.pi)  # of -pi (without) to pi
    lag = phase / (2 * np.pi) * period.numpy()[:, None]
    return gain, np.where(gain > _NOTHING, lag, np.nan)


def _fitted(output: Tensor, wave: Tensor) -> tuple[Array, Array]:
    """Amplitude and phase behind cos(wave), (U,) each, of outputs (T, U)."""
    basis = torch.stack([wave.cos(), wave.sin(), torch.ones_like(wave)], dim=1)
    # At two steps a period the sine is nothing but rounding.
    cosine, sine, _ = torch.linalg.pinv(basis, rtol=1e-6) @ output
    return torch.hypot(cosine, sine).numpy(), torch.atan2(sine, cosine).numpy()


def initial_state(alone: RecurrentLayer, mean: Tensor) -> Tensor:
    """(S,) for a mean h (H,), or a whole mean state (S,), of one layer."""
    return mean if len(mean) == state_size(alone) else torch.cat([mean, mean.new_zeros(state_size(alone) - len(mean))])
