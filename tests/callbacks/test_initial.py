"""Windows that start from a learned state, or from noise."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from handmade import FEATURES, LENGTH, Regressor, in_order, loader, quiet_trainer, seeded, series, shuffles, stretches
from torch import Tensor

from mptt import MPTTError
from mptt.callbacks import LearnedInitialStateCallback, NoisyInitialStateCallback, StatefulCallback

ORDERS = shuffles(3)


def by_hand(orders: list[list[int]]) -> Any:
    module = seeded(Regressor)
    state = torch.nn.Parameter(torch.zeros(4))
    optimizer = torch.optim.SGD([*module.parameters(), state], lr=0.1)
    for order in orders:
        for batch in loader([order]):
            output, _ = module.gru(batch["x"], state.expand(1, len(batch["x"]), 4).contiguous())
            optimizer.zero_grad()
            (module.head(output) - batch["y"]).square().mean().backward()
            optimizer.step()
    return module, state


def test_the_learned_state_is_trained_with_the_weights_as_by_hand() -> None:
    mine = seeded(Regressor)
    quiet_trainer([LearnedInitialStateCallback()]).fit(mine, loader(ORDERS))
    other, state = by_hand(ORDERS)
    assert mine.initial_state.abs().max() > 1e-3
    assert torch.allclose(mine.initial_state, state, rtol=0, atol=1e-6)
    for name, value in other.state_dict().items():
        assert torch.allclose(mine.state_dict()[name], value, rtol=0, atol=1e-6), name


@pytest.mark.parametrize("evaluation", ["stateful", "independent"])
@pytest.mark.parametrize("apart", [False, True], ids=["one callback", "another evaluates"])
def test_evaluation_starts_from_it_too(evaluation: Any, apart: bool) -> None:
    learned = LearnedInitialStateCallback(evaluation=None if apart else evaluation)
    callbacks = [learned, *([StatefulCallback(training=False, evaluation=evaluation)] if apart else [])]
    module, trainer = seeded(Regressor), quiet_trainer(callbacks)
    trainer.fit(module, loader(ORDERS))
    batches = stretches(7)
    found = trainer.predict(module, in_order(batches))
    first = module.initial_state.detach().expand(1, 1, 4).contiguous()
    for site, (x, _) in series().items():
        pieces = [
            prediction[batch["site"].tolist().index(site), : int(batch["length"][batch["site"] == site])]
            for prediction, batch in zip(found, batches, strict=True)
            if site in batch["site"]
        ]
        with torch.no_grad():
            chunks = [x] if evaluation == "stateful" else x.split(7)
            expected = torch.cat([module.head(module.gru(chunk[None], first)[0])[0] for chunk in chunks])
        assert torch.allclose(torch.cat(pieces), expected, rtol=0, atol=1e-6)


def test_the_learned_state_comes_back_with_a_checkpoint(tmp_path: Any) -> None:
    trainer = quiet_trainer([LearnedInitialStateCallback()])
    trainer.fit(seeded(Regressor), loader(ORDERS))
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    resumed = seeded(Regressor)
    quiet_trainer([LearnedInitialStateCallback()], max_epochs=4).fit(
        resumed, loader(shuffles(4)), ckpt_path=str(tmp_path / "run.ckpt")
    )
    whole = seeded(Regressor)
    quiet_trainer([LearnedInitialStateCallback()], max_epochs=4).fit(whole, loader(shuffles(4)))
    assert torch.equal(resumed.initial_state, whole.initial_state)


def test_an_optimizer_that_leaves_it_out_is_refused() -> None:
    class Part(Regressor):
        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.gru.parameters(), lr=0.1)

    with pytest.raises(MPTTError, match=r"No optimizer trains the parameter initial_state.*self\.parameters\(\)"):
        quiet_trainer([LearnedInitialStateCallback()]).fit(Part(), loader(ORDERS))


def test_something_else_of_that_name_is_refused() -> None:
    module = seeded(Regressor)
    module.initial_state = "warm"
    with pytest.raises(MPTTError, match=r"a parameter \(4,\), but there is something else"):
        quiet_trainer([LearnedInitialStateCallback()]).fit(module, loader(ORDERS))


class Sees(Regressor):
    """Keeps the state in which its layer starts, found from what it gives with all weights zero."""

    def __init__(self) -> None:
        super().__init__()
        with torch.no_grad():
            for weight in self.gru.parameters():
                weight.zero_()
        self.starts: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        output = self.gru(x)[0]
        if self.training:
            self.starts.append(output[:, 0].detach() * 2)  # h <- (1 - 1/2) 0 + 1/2 h
        return self.head(output)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.0)


def test_noise_has_the_deviation_asked_for_and_is_drawn_anew() -> None:
    module = Sees()
    quiet_trainer([NoisyInitialStateCallback(deviation=0.3, seed=1)], max_epochs=60).fit(module, loader(shuffles(60)))
    starts = torch.cat(module.starts)
    assert starts.shape == (60 * len(ORDERS[0]), 4)
    assert starts.unique(dim=0).shape == starts.shape
    # 2400 draws: a deviation has a relative standard error of 1 / sqrt(2 n), a mean one of 1 / sqrt(n).
    assert abs(float(starts.std()) / 0.3 - 1) < 5 / (2 * starts.numel()) ** 0.5
    assert abs(float(starts.mean()) / 0.3) < 5 / starts.numel() ** 0.5


def test_noise_of_nothing_is_zero_state() -> None:
    mine, plain = seeded(Regressor), seeded(Regressor)
    quiet_trainer([NoisyInitialStateCallback(deviation=0.0)]).fit(mine, loader(ORDERS))
    quiet_trainer().fit(plain, loader(ORDERS))
    assert all(torch.equal(value, plain.state_dict()[name]) for name, value in mine.state_dict().items())


def test_noise_is_the_same_in_a_resumed_run(tmp_path: Any) -> None:
    trainer = quiet_trainer([NoisyInitialStateCallback(seed=4)], max_epochs=2)
    trainer.fit(seeded(Regressor), loader(ORDERS))
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    resumed, whole = seeded(Regressor), seeded(Regressor)
    callback = NoisyInitialStateCallback(seed=4)
    quiet_trainer([callback]).fit(resumed, loader(ORDERS), ckpt_path=str(tmp_path / "run.ckpt"))
    quiet_trainer([NoisyInitialStateCallback(seed=4)]).fit(whole, loader(ORDERS))
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in resumed.state_dict().items())


def test_noise_stays_out_of_evaluation() -> None:
    module = seeded(Regressor)
    trainer = quiet_trainer([NoisyInitialStateCallback(deviation=5.0)], max_epochs=1)
    trainer.fit(module, loader(ORDERS))
    (found,) = trainer.predict(module, in_order(stretches(20, sites=[0])))
    with torch.no_grad():
        expected = module.head(module.gru(series()[0][0][None])[0])
    assert torch.allclose(found, expected, rtol=0, atol=1e-6)


def test_a_negative_deviation_is_refused() -> None:
    with pytest.raises(MPTTError, match="deviation must be 0 or more, found -1"):
        NoisyInitialStateCallback(deviation=-1)
    with pytest.raises(MPTTError, match="deviation must be 0 or more, found nan"):
        NoisyInitialStateCallback(deviation=float("nan"))


def test_lengths_of_the_batch_do_not_matter() -> None:
    short = [{"x": torch.zeros(2, 3, FEATURES), "y": torch.zeros(2, 3, 1), "window": torch.tensor([0, 1])}]
    assert LENGTH != 3
    quiet_trainer([LearnedInitialStateCallback()], max_epochs=1).fit(seeded(Regressor), in_order(short))
