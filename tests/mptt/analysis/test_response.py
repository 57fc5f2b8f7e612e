from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mptt import MPTTError
from mptt.analysis.decoupled import decouple, layer_alone
from mptt.analysis.response import (
    StepResponse,
    at_rest,
    frequency_response,
    initial_state,
    step_metrics,
    step_response,
)


def relu(*memory: float, coupling: float = 0.0, weight: float = 1.0) -> nn.RNN:
    """Units h' = a h + weight x + 10, far from where relu bends."""
    layer = nn.RNN(1, len(memory), nonlinearity="relu", batch_first=True)
    whole = torch.full((len(memory), len(memory)), coupling)
    state = {
        "weight_ih_l0": torch.full((len(memory), 1), weight),
        "weight_hh_l0": whole - whole.diag().diag() + torch.tensor(memory).diag(),
        "bias_ih_l0": torch.full((len(memory),), 10.0),
        "bias_hh_l0": torch.zeros(len(memory)),
    }
    layer.load_state_dict(state)
    return layer


def answers(layer: nn.RNN, horizon: int = 1000) -> tuple[nn.RNN, Tensor, StepResponse]:
    alone = decouple(layer, 0, torch.zeros(layer.hidden_size))
    rest = at_rest(alone, torch.zeros(1), torch.zeros(layer.hidden_size), 2 * horizon)
    return alone, rest, step_response(alone, torch.zeros(1), torch.eye(1), rest, horizon)  # type: ignore[return-value]


def test_a_linear_unit_delays_by_its_half_life_and_settles_as_it_decays() -> None:
    memory = (0.5, 0.9, 0.98)
    _, rest, response = answers(relu(*memory))
    np.testing.assert_allclose(rest[0], [10 / (1 - a) for a in np.float32(memory)], rtol=1e-6)
    found = step_metrics(response)
    for unit, a in enumerate(memory):
        assert found["change"][0, unit] == pytest.approx(1 / (1 - a), rel=1e-5)
        assert found["delay"][0, unit] == math.ceil(math.log(0.5) / math.log(a) - 1e-4)
        assert found["settling"][0, unit] == math.ceil(math.log(0.02) / math.log(a) - 1e-4)
        nine, one = (math.ceil(math.log(left) / math.log(a) - 1e-4) for left in (0.1, 0.9))
        assert found["rise"][0, unit] == nine - one
        assert found["overshoot"][0, unit] == pytest.approx(0, abs=1e-9)


def test_a_unit_without_memory_is_there_at_once_and_one_without_input_does_not_move() -> None:
    found = step_metrics(answers(relu(0.0), 50)[2])
    assert [found[name].item() for name in ("change", "delay", "rise", "settling")] == [1, 1, 0, 1]
    still = step_metrics(answers(relu(0.5, weight=0.0), 50)[2])
    assert (still["change"].item(), still["settling"].item()) == (0, 0)
    assert np.isnan([still["delay"], still["rise"], still["overshoot"]]).all()


def test_a_unit_that_swings_overshoots() -> None:
    # h' = -0.5 h + x: 1, 0.5, 0.75, ... to 2/3; half as far again at first
    found = step_metrics(answers(relu(-0.5), 50)[2])
    assert found["change"].item() == pytest.approx(2 / 3)
    assert found["overshoot"].item() == pytest.approx(50)
    assert found["settling"].item() == 1 + math.ceil(math.log(0.02 / 0.5) / math.log(0.5))


def test_what_does_not_settle_within_the_horizon_says_so() -> None:
    found = step_metrics(answers(relu(0.999, 0.9), 100)[2])
    assert found["settling"].tolist() == [[math.inf, 38]]
    assert np.isnan([found[name][0, 0] for name in ("change", "delay", "rise", "overshoot")]).all()
    # Not because it stops short: one whose every step is alike never does.
    ramp = StepResponse(np.zeros(1), np.arange(1.0, 201)[None, :, None])
    assert step_metrics(ramp)["settling"].tolist() == [[math.inf]]


def test_gain_and_lag_of_a_linear_unit_are_those_of_theory() -> None:
    memory, periods = (0.5, 0.98), [2, 7, 91.25, 365]
    alone, rest, response = answers(relu(*memory), 730)
    sign = np.sign(response.path[:, -1] - response.start)
    gain, lag = frequency_response(alone, torch.zeros(1), torch.eye(1), rest, sign, periods, 730)
    for unit, a in enumerate(np.float32(memory)):
        for nth, period in enumerate(periods):
            theory = 1 / (1 - a * np.exp(-2j * np.pi / period))
            assert gain[0, nth, unit] == pytest.approx(abs(theory), rel=1e-3)
            assert lag[0, nth, unit] == pytest.approx(-np.angle(theory) * period / (2 * np.pi), abs=0.01)


def test_lag_of_a_unit_that_goes_down_is_that_of_its_mirror_image() -> None:
    def found(weight: float) -> np.ndarray:
        alone, rest, response = answers(relu(0.8, weight=weight), 365)
        sign = np.sign(response.path[:, -1] - response.start)
        return np.stack(frequency_response(alone, torch.zeros(1), torch.eye(1), rest, sign, [30, 365], 365))

    np.testing.assert_allclose(found(-1.0), found(1.0), rtol=1e-6)


@pytest.mark.parametrize("kind", ["tanh", "relu", "gru", "lstm"])
@pytest.mark.parametrize("bias", [True, False])
def test_a_decoupled_unit_feels_the_others_at_their_mean_alone(kind: str, bias: bool) -> None:
    torch.manual_seed(0)
    layer: nn.RNN | nn.GRU | nn.LSTM
    if kind in ("tanh", "relu"):
        layer, cell = nn.RNN(3, 4, 2, nonlinearity=kind, bias=bias), nn.RNNCell(4, 4, bias, kind)  # type: ignore[assignment]
    else:
        layer = {"gru": nn.GRU, "lstm": nn.LSTM}[kind](3, 4, 2, bias=bias)
        cell = {"gru": nn.GRUCell, "lstm": nn.LSTMCell}[kind](4, 4, bias)  # type: ignore[assignment]
    names = [name for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh") if hasattr(layer, f"{name}_l1")]
    cell.load_state_dict({name: getattr(layer, f"{name}_l1") for name in names})
    mean, x = torch.randn(4), torch.randn(1, 6, 4)
    alone = decouple(layer, 1, mean)
    output = alone(x.double())[0][0]  # (step, unit)
    for unit in range(4):  # one unit at a time, the others put back to their mean before each step
        h, c = torch.zeros(1, 4), torch.zeros(1, 4)
        for step in range(6):
            others = mean.clone().unsqueeze(0)
            others[0, unit] = h[0, unit]
            if kind == "lstm":
                h, c = cell(x[:, step], (others, c))
            else:
                h = cell(x[:, step], others)
            assert output[step, unit].item() == pytest.approx(h[0, unit].item(), abs=1e-5)


def test_a_layer_alone_is_that_layer() -> None:
    torch.manual_seed(0)
    gru, x = nn.GRU(3, 4, 2, batch_first=True), torch.randn(2, 5, 3)
    first, second = layer_alone(gru, 0), layer_alone(gru, 1)
    torch.testing.assert_close(second(first(x.double())[0])[0].float(), gru(x)[0])
    assert not any(one.requires_grad for one in second.parameters())


def test_a_mean_output_of_an_lstm_is_completed_with_empty_cells() -> None:
    assert initial_state(nn.LSTM(1, 2), torch.ones(2)).tolist() == [1, 1, 0, 0]
    assert initial_state(nn.LSTM(1, 2), torch.ones(4)).tolist() == [1, 1, 1, 1]


def test_units_that_cannot_be_told_apart_are_refused() -> None:
    with pytest.raises(MPTTError, match="LSTM has proj_size"):
        decouple(nn.LSTM(3, 4, proj_size=2), 0, torch.zeros(2))
    with pytest.raises(MPTTError, match="GRU has bidirectional=True"):
        decouple(nn.GRU(3, 4, bidirectional=True), 0, torch.zeros(4))
