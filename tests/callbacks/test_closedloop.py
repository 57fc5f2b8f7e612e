"""Closed-loop evaluation: predictions in the place of the lagged target."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from handmade import Regressor, in_order, quiet_trainer
from torch import Tensor, nn

from mptt import MPTTError
from mptt.callbacks import ClosedLoopCallback, StatefulCallback, open_states
from mptt.closedloop import Step, cell

STEPS = {3: 11, 8: 7}  # by site
KNOWN = 2


class Lagged(Regressor):
    """Two known inputs and the lagged target."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.gru = nn.GRU(KNOWN + 1, 4, batch_first=True)
        self.head = nn.Linear(4, 1)

    def stepper(self) -> Step:
        core = cell(self.gru)

        def step(x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
            output, state = core(x, state)
            return self.head(output), state

        return step

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self.log("test_loss", (self(batch["x"]) - 1).square().mean())


def inputs() -> dict[int, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {site: torch.randn(steps, KNOWN, generator=generator) for site, steps in STEPS.items()}


FIRST = {3: 0.7, 8: -1.3}  # observed before the first step


def stretches(chunk: int, leak: float = torch.nan) -> list[dict[str, Tensor]]:
    """Both sites side by side; where a prediction is to stand, `leak`."""
    batches = []
    for start in range(0, max(STEPS.values()), chunk):
        going = [site for site, steps in STEPS.items() if steps > start]
        length = [min(chunk, STEPS[site] - start) for site in going]
        x = torch.full((len(going), max(length), KNOWN + 1), 9.0)
        x[..., -1] = leak
        for row, (site, steps) in enumerate(zip(going, length, strict=True)):
            x[row, :steps, :KNOWN] = inputs()[site][start : start + steps]
            if start == 0:
                x[row, 0, -1] = FIRST[site]
        where = {"site": going, "start": [start] * len(going), "length": length}
        batches.append({"x": x, **{key: torch.tensor(values) for key, values in where.items()}})
    return batches


def by_hand(module: Lagged, site: int) -> Tensor:
    state, last, predictions = torch.zeros(1, 1, 4), torch.tensor([[FIRST[site]]]), []
    with torch.no_grad():
        for x in inputs()[site]:
            output, state = module.gru(torch.cat([x[None], last], dim=1)[None], state)
            last = module.head(output[0])
            predictions.append(last[0])
    return torch.stack(predictions)


def predicted(module: Lagged, batches: list[Any], trainer: Any = None) -> dict[int, Tensor]:
    trainer = trainer or quiet_trainer([ClosedLoopCallback(lagged_columns=1)])
    found: dict[int, list[Tensor]] = {site: [] for site in STEPS}
    outputs = trainer.predict(module, in_order(batches))
    for output, batch in zip(outputs, batches, strict=True):
        for row, (site, length) in enumerate(zip(batch["site"].tolist(), batch["length"].tolist(), strict=True)):
            found[site].append(output[row, :length])
    return {site: torch.cat(pieces) for site, pieces in found.items()}


@pytest.mark.parametrize("chunk", [1, 3, 5, 11])
def test_every_step_reads_the_prediction_before_it(chunk: int) -> None:
    module = Lagged()
    found = predicted(module, stretches(chunk))
    for site in STEPS:
        assert torch.allclose(found[site], by_hand(module, site), rtol=0, atol=1e-6)


def test_observations_are_not_read_after_the_first_step() -> None:
    module = Lagged()
    one, other = predicted(module, stretches(4, leak=123.0)), predicted(module, stretches(4))
    assert all(torch.equal(one[site], other[site]) for site in STEPS)


def test_a_second_pass_begins_afresh() -> None:
    module, trainer = Lagged(), quiet_trainer([ClosedLoopCallback(lagged_columns=1)])
    first, second = (predicted(module, stretches(4), trainer) for _ in range(2))
    assert all(torch.equal(first[site], second[site]) for site in STEPS)


def test_the_data_given_stay_as_they_are() -> None:
    batches = stretches(4)
    before = [batch["x"].clone() for batch in batches]
    predicted(Lagged(), batches)
    for batch, x in zip(batches, before, strict=True):
        assert torch.allclose(batch["x"], x, rtol=0, atol=0, equal_nan=True)


def test_a_module_without_a_stepper_is_refused() -> None:
    with pytest.raises(MPTTError, match=r"needs a method stepper\(\) of Regressor.*mptt\.closedloop\.cell"):
        quiet_trainer([ClosedLoopCallback(lagged_columns=1)]).predict(Regressor(), in_order(stretches(4)))


def test_inputs_without_a_lagged_target_are_refused() -> None:
    with pytest.raises(MPTTError, match=r"there is none among the inputs \(no DataModule\).*lagged_columns="):
        quiet_trainer([ClosedLoopCallback()]).predict(Lagged(), in_order(stretches(4)))


def test_stretches_out_of_order_are_refused() -> None:
    batches = stretches(4)
    with pytest.raises(MPTTError, match="needs each series in order"):
        quiet_trainer([ClosedLoopCallback(lagged_columns=1)]).predict(Lagged(), in_order([batches[0], batches[2]]))


def halved(batches: list[Any]) -> tuple[list[Any], list[Any]]:
    return batches[:2], batches[2:]


def test_a_second_half_goes_on_from_state_and_last_prediction_of_the_first(tmp_path: Path) -> None:
    module, path = Lagged(), tmp_path / "states.nc"
    whole = predicted(module, stretches(3))
    first, second = halved(stretches(3, leak=5.0))
    callback = ClosedLoopCallback(lagged_columns=1)
    quiet_trainer([callback]).predict(module, in_order(first))
    callback.save_states(path)
    states = open_states(path)
    for site in STEPS:
        assert states["prediction"].sel(site=str(site)).item() == whole[site][5].item()
    going_on = quiet_trainer([ClosedLoopCallback(lagged_columns=1, initial_states=path)])
    found = predicted(module, second, going_on)
    assert all(torch.equal(found[site], whole[site][6:]) for site in STEPS)


def test_states_go_on_only_in_the_inference_that_they_came_of() -> None:
    module, (first, second) = Lagged(), halved(stretches(3, leak=0.5))
    closed, teacher = ClosedLoopCallback(lagged_columns=1), StatefulCallback(training=False)
    for callback in (closed, teacher):
        quiet_trainer([callback]).predict(module, in_order(first))
    with pytest.raises(MPTTError, match="are of closed-loop inference, and StatefulCallback is another"):
        quiet_trainer([StatefulCallback(training=False, initial_states=closed.states())]).predict(
            module, in_order(second)
        )
    with pytest.raises(MPTTError, match="are of another inference, and ClosedLoopCallback is closed-loop"):
        quiet_trainer([ClosedLoopCallback(lagged_columns=1, initial_states=teacher.states())]).predict(
            module, in_order(second)
        )


def test_each_loader_begins_with_its_own_observation() -> None:
    class TakesLoaders(Lagged):
        def predict_step(self, batch: dict[str, Tensor], batch_idx: int, dataloader_idx: int = 0) -> Any:
            return self(batch["x"])

    def halves(*which: int) -> list[Any]:
        trainer = quiet_trainer([ClosedLoopCallback(lagged_columns=1)])
        found: Any = trainer.predict(TakesLoaders(), [in_order(halved(stretches(3, leak=5.0))[nth]) for nth in which])
        return found

    # The second loader begins where the first ends, and does not go on from its predictions.
    after_the_first, alone = halves(0, 1)[1], halves(1)
    assert all(torch.equal(one, other) for one, other in zip(after_the_first, alone, strict=True))
