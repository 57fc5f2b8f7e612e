"""MessageQuality: numbers by hand on a core that adds up, and nothing of it in the training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from handmade import TABLE, Regressor, in_order, loader, quiet_trainer, seeded, shuffles, stretches
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor, nn

from mptt import MPTTError, MPTTWarning, WindowIndex
from mptt.callbacks import MessageQuality, MPTTCallback
from mptt.callbacks.mptt import Watcher
from mptt.datamodules import SimulatedBasin
from mptt.experiments.regressor import SequenceRegressor

WINDOWS = WindowIndex(*zip(*TABLE, strict=True))


class Sums(pl.LightningModule):
    """A core that adds up its weight, 1 at first, a step; each training step adds 1 to the weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def states(self, batch: dict[str, Tensor]) -> Tensor:
        return batch["h0"].unsqueeze(1) + (self.weight * batch["x"]).cumsum(1)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Any:
        return {"loss": -self.weight.sum(), "states": self.states(batch)}

    def predict_step(self, batch: dict[str, Tensor]) -> Any:
        return {"states": self.states(batch)}

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=1.0)


class Logged(pl.Callback):
    def __init__(self) -> None:
        self.epochs: dict[int, dict[str, float]] = {}

    def on_train_epoch_end(self, trainer: Any, *args: Any) -> None:
        names = [name for name in trainer.callback_metrics if name.startswith("mptt/")]
        self.epochs[trainer.current_epoch] = {name[5:]: float(trainer.callback_metrics[name]) for name in names}


def squares(*parts: float) -> float:
    return float(np.sqrt(np.mean(np.square(parts))))


# Windows 0 (steps 0-3), 1 (2-5), 2 (4-7): under weight w their true states are 0, 2 w and 4 w.
#
# Epoch 0, w = 1, from zeros: 0 writes 2 to 1 and 4 to 2; 1 writes 2 to 2. Then w = 2. Messages (0 + 2)/2 and
#   (0 + 4 + 2)/3; true 4 and 8; middle 3 and 6; kept (0 + 3)/2 and (0 + 2*6)/3.
# Epoch 1, w = 2: 0 writes 4 and 8; 1 reads its message 1, and writes 5. Then w = 3. Messages (1 + 4)/2 and
#   (2 + 8 + 5)/3; true 6 and 12; middle 5 and 10; kept (1.5 + 5)/2 and (4 + 2*10)/3.
BY_HAND = [
    {
        "staleness": squares(1 - 4, 2 - 8) / 4,
        "staleness_written": squares(1 - 1.5, 2 - 4) / 4,
        "staleness_age": squares(1.5 - 3, 4 - 6) / 4,
        "staleness_drift": squares(3 - 4, 6 - 8) / 4,
        "staleness_zero": squares(4, 8) / 4,
        "weight_drift": 1.0,
        "writers": 1.5,
    },
    {
        "staleness": squares(2.5 - 6, 5 - 12) / 6,
        "staleness_written": squares(2.5 - 3.25, 5 - 8) / 6,
        "staleness_age": squares(3.25 - 5, 8 - 10) / 6,
        "staleness_drift": squares(5 - 6, 10 - 12) / 6,
        "staleness_zero": squares(6, 12) / 6,
        "weight_drift": 0.5,
        "writers": 1.5,
    },
]


@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize("every", [1, 2])
def test_staleness_and_its_parts_are_those_by_hand(order: str, every: int) -> None:
    x = torch.ones(1, 8, 1)
    windows = WindowIndex(site=[0, 0, 0], start=[0, 2, 4], length=4)
    batch = {"x": x[:, :4].expand(2, 4, 1), "window": torch.tensor([0, 1])}
    # The series in two pieces, the second of which goes on from the first.
    pieces = [
        {"x": x[:, low : low + steps]}
        | {"site": torch.tensor([0]), "start": torch.tensor([low])}
        | {"length": torch.tensor([steps])}
        for low, steps in ((0, 3), (3, 5))
    ]
    messages = MPTTCallback(delta=1.0, state_size=1, windows=windows, series=in_order(pieces))
    quality, logged = MessageQuality(every=every), Logged()
    both = [quality, messages] if order == "before" else [messages, quality]
    quiet_trainer([*both, logged], max_epochs=2).fit(Sums(), in_order([batch]))
    first, second = logged.epochs[0], logged.epochs[1]
    assert {name: second[name] for name in BY_HAND[1]} == pytest.approx(
        BY_HAND[1] | {"weight_drift": 0.5 if every == 1 else 2.0}, rel=1e-5
    )
    if every == 1:
        assert {name: first[name] for name in BY_HAND[0]} == pytest.approx(BY_HAND[0], rel=1e-5)
    else:
        assert all(np.isnan(first[name]) for name in BY_HAND[0] if name != "writers")
    assert messages.watchers == []  # nothing is left behind


@pytest.fixture(scope="module")
def basin(tmp_path_factory: pytest.TempPathFactory) -> SimulatedBasin:
    cache = tmp_path_factory.mktemp("basin")
    data = SimulatedBasin(years=6, cache=cache, window=90, stride=40, batch_size=8, seed=0, warmup=9)
    data.setup("fit")
    return data


def train(
    data: SimulatedBasin, *callbacks: pl.Callback, epochs: int = 2, core: str = "gru", layers: int = 1
) -> tuple[SequenceRegressor, dict[int, dict[str, float]]]:
    torch.manual_seed(0)
    module = SequenceRegressor(data.input_size, core=core, hidden_size=5, num_layers=layers)  # type: ignore[arg-type]
    logged = Logged()
    quiet_trainer([*callbacks, logged], max_epochs=epochs, limit_val_batches=0).fit(module, datamodule=data)
    return module, logged.epochs


@pytest.mark.parametrize(("core", "layers"), [("gru", 1), ("gru", 2), ("lstm", 1)])
def test_true_states_are_those_of_one_pass_over_the_whole_series(basin: SimulatedBasin, core: str, layers: int) -> None:
    messages, quality = MPTTCallback(), MessageQuality(windows=10, stretches=3, spin_up=None)
    module, epochs = train(basin, messages, quality, core=core, layers=layers)
    assert quality.sample is not None
    ids = quality.sample.ids
    x = torch.cat([batch["x"] for batch in basin.series_dataloader()], dim=1)
    layer = next(one for one in module.modules() if isinstance(one, nn.RNNBase))
    states = []
    with torch.no_grad():
        for start in basin.windows.start[ids].tolist():
            hidden = layer(x[:, :start])[1]
            hidden = hidden if isinstance(hidden, tuple) else (hidden,)
            states.append(torch.cat([part.transpose(0, 1).flatten() for part in hidden]))
    true, found = torch.stack(states), messages.memory.read(ids)  # type: ignore[union-attr]
    pairs = torch.pdist(true).square().mean().sqrt()
    distance = (found - true).square().sum(1).mean().sqrt()
    assert epochs[1]["staleness"] == pytest.approx(float(distance / pairs), rel=1e-4)
    assert epochs[1]["staleness_zero"] == pytest.approx(float(true.square().sum(1).mean().sqrt() / pairs), rel=1e-4)


def test_a_walk_along_all_series_finds_the_same(basin: SimulatedBasin) -> None:
    def measured(**settings: Any) -> dict[int, dict[str, float]]:
        return train(basin, MPTTCallback(**settings), MessageQuality(windows=10, stretches=3, spin_up=None))[1]

    along, walked = measured(), measured(series=list(basin.series_dataloader()))
    for epoch in along:
        assert along[epoch] == pytest.approx(walked[epoch], rel=1e-4)


def test_a_short_spin_up_is_off_by_what_is_not_forgotten_by_then(basin: SimulatedBasin) -> None:
    def measured(spin_up: int | None) -> dict[str, float]:
        return train(basin, MPTTCallback(), MessageQuality(windows=10, stretches=3, spin_up=spin_up), epochs=1)[1][0]

    whole, long, none = measured(None), measured(300), measured(0)
    # An untrained network forgets within weeks.
    assert long["staleness"] == pytest.approx(whole["staleness"], rel=1e-3)
    assert none["staleness"] != pytest.approx(whole["staleness"], rel=1e-3)


class Dropped(Regressor):
    """Draws random numbers in training."""

    def forward(self, x: Tensor) -> Any:
        return self.head(nn.functional.dropout(self.gru(x)[0], 0.3, self.training))


def explicit_settings() -> dict[str, Any]:
    return {"windows": WINDOWS, "series": in_order(stretches(7))}


@pytest.mark.parametrize("settings", [{}, {"refresh_every": 2}, {"warmup_epochs": 2}, {"dtype": "bfloat16"}])
def test_training_is_the_same_bit_for_bit(settings: dict[str, Any]) -> None:
    def trained(*more: pl.Callback) -> tuple[Dropped, MPTTCallback, Tensor]:
        callback, module = MPTTCallback(**explicit_settings(), **settings), seeded(Dropped)
        torch.manual_seed(3)
        quiet_trainer([*more, callback], max_epochs=4).fit(module, loader(shuffles(4)))
        return module, callback, torch.get_rng_state()

    one, without, random = trained()
    other, beside, random_beside = trained(MessageQuality(stretches=2))
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())
    assert torch.equal(without.memory.mu, beside.memory.mu)  # type: ignore[union-attr]
    assert torch.equal(random, random_beside)


def test_a_fresh_link_leaves_no_age_and_little_else() -> None:
    class Still(Regressor):
        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.0)

    logged = Logged()
    callback = MPTTCallback(**explicit_settings(), warmup_epochs=2, delta=3.0)
    quiet_trainer([callback, MessageQuality(), logged], max_epochs=4).fit(seeded(Still), loader(shuffles(4)))
    # Weights that stand still: only zeros of before the link are off, wholly, and by age.
    assert logged.epochs[1]["staleness"] == logged.epochs[1]["staleness_zero"] == logged.epochs[1]["staleness_age"]
    assert [logged.epochs[epoch]["staleness"] for epoch in (2, 3)] == pytest.approx([0.0, 0.0], abs=1e-5)
    assert all(epoch["staleness_drift"] == 0 for epoch in logged.epochs.values())


@pytest.mark.parametrize("every", [1, 2])
def test_a_resumed_run_logs_what_the_run_would_have(basin: SimulatedBasin, tmp_path: Path, every: int) -> None:
    def fit(*more: pl.Callback, **resume: Any) -> dict[int, dict[str, float]]:
        torch.manual_seed(0)
        module, logged = SequenceRegressor(basin.input_size, hidden_size=5), Logged()
        callbacks = [MPTTCallback(delta=2.0), MessageQuality(every=every, windows=8, stretches=2), logged, *more]
        trainer = quiet_trainer(callbacks, max_epochs=4, limit_val_batches=0, enable_checkpointing=bool(more))
        trainer.fit(module, datamodule=basin, **resume)
        return logged.epochs

    batches = len(basin.train_dataloader())
    assert batches % 2 == 0
    save = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=batches // 2, save_top_k=-1)
    whole = fit(save)
    for halves in (2, 3):  # epochs: one, and one and a half
        resumed = fit(ckpt_path=tmp_path / f"step={halves * batches // 2}.ckpt")
        # From the end of an epoch Lightning goes on with the next, and the hooks of that end are not called.
        assert sorted(resumed) == [1, 2, 3]
        for epoch, found in resumed.items():
            assert found == pytest.approx(whole[epoch], nan_ok=True, rel=1e-5), epoch


def test_another_sample_than_the_checkpoint_s_is_told(tmp_path: Path) -> None:
    save = ModelCheckpoint(tmp_path, filename="{epoch}")
    first = [MPTTCallback(**explicit_settings()), MessageQuality(seed=0, stretches=1, windows=2), save]
    quiet_trainer(first, max_epochs=1, enable_checkpointing=True).fit(seeded(Regressor), loader(shuffles(2)))
    again, logged = MessageQuality(seed=0, stretches=1, windows=4), Logged()
    trainer = quiet_trainer([MPTTCallback(**explicit_settings()), again, logged], max_epochs=2)
    with pytest.warns(MPTTWarning, match="sample of messages is of other windows"):
        trainer.fit(seeded(Regressor), loader(shuffles(2)), ckpt_path=tmp_path / "epoch=0.ckpt")
    assert logged.epochs[1]["staleness"] > 0


def test_it_needs_an_mptt_callback_and_series() -> None:
    with pytest.raises(MPTTError, match="MessageQuality measures the messages of an MPTTCallback, and the Trainer has"):
        quiet_trainer([MessageQuality()]).fit(seeded(Regressor), loader(shuffles(3)))
    with pytest.raises(
        MPTTError, match=r"MessageQuality and .* walk along the training series: pass MPTTCallback\(series"
    ):
        quiet_trainer([MessageQuality(), MPTTCallback(windows=WINDOWS)]).fit(seeded(Regressor), loader(shuffles(3)))


@pytest.mark.parametrize("wrong", [{"every": 0}, {"windows": 1}, {"stretches": 0}, {"spin_up": -1}])
def test_settings_out_of_range_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(MPTTError, match=f"{next(iter(wrong))} .*found {next(iter(wrong.values()))}"):
        MessageQuality(**wrong)


def test_it_is_a_watcher_and_stays_out_of_test(basin: SimulatedBasin) -> None:
    watcher: Watcher = MessageQuality()
    module, _ = train(basin, MPTTCallback(), MessageQuality(stretches=2), epochs=1)
    quiet_trainer([watcher]).test(module, datamodule=basin, verbose=False)  # type: ignore[list-item]
