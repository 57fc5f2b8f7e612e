"""Modules not written for MPTT train as by hand, and the callback finds the layer it is to use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from handmade import (
    FEATURES,
    TABLE,
    Regressor,
    assert_same_weights,
    loader,
    quiet_trainer,
    seeded,
    shuffles,
    train_by_hand,
    walk,
)
from oracle import slow_links
from torch import Tensor, nn

from mptt import MPTTError, MPTTWarning, StateMap, WindowIndex
from mptt.callbacks import MPTTCallback

WINDOWS = WindowIndex(*zip(*TABLE, strict=True))


class EncoderFirst(Regressor):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(FEATURES, 5), nn.Tanh())
        self.gru = nn.GRU(5, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gru(self.encoder(x))[0])


class TwoLayerLSTM(Regressor):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.LSTM(FEATURES, 4, num_layers=2, dropout=0.4, batch_first=True)


class First(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)[0]


class InASequential(Regressor):
    def __init__(self) -> None:
        super().__init__()
        del self.gru
        self.net = nn.Sequential(nn.Linear(FEATURES, 5), First(nn.GRU(5, 4, batch_first=True)), nn.Linear(4, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class ManyThings(Regressor):
    def forward(self, x: Tensor) -> Any:
        output, final = self.gru(x)
        return {"prediction": (self.head(output), output.std()), "final": final, "raw": x}

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        return (self(batch["x"])["prediction"][0] - batch["y"]).square().mean()


class ManualOptimisation(Regressor):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(self.loss(batch))
        optimizer.step()


class TimeFirstRNN(Regressor):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.RNN(FEATURES, 4, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gru(input=x.transpose(0, 1))[0]).transpose(0, 1)


class ProjectedLSTM(Regressor):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.LSTM(FEATURES, 5, num_layers=2, proj_size=4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gru(x.transpose(0, 1))[0]).transpose(0, 1)


def plain(module: Any, x: Tensor, state: Tensor, ends: list[int]) -> tuple[Tensor, dict[int, Tensor]]:
    output, states = walk(module.gru, x, state, ends)
    return module.head(output), states


def encoded(module: Any, x: Tensor, state: Tensor, ends: list[int]) -> tuple[Tensor, dict[int, Tensor]]:
    output, states = walk(module.gru, module.encoder(x), state, ends)
    return module.head(output), states


def sequential(module: Any, x: Tensor, state: Tensor, ends: list[int]) -> tuple[Tensor, dict[int, Tensor]]:
    output, states = walk(module.net[1].layer, module.net[0](x), state, ends)
    return module.net[2](output), states


class DropoutNumbers(pl.Callback):
    """Hands the training steps one stream of random numbers: DataLoaders draw from the generator in between."""

    def __init__(self) -> None:
        torch.manual_seed(1)
        self.state = torch.get_rng_state()

    def on_train_batch_start(self, *args: Any) -> None:
        torch.set_rng_state(self.state)

    def on_train_batch_end(self, *args: Any) -> None:
        self.state = torch.get_rng_state()


@pytest.mark.parametrize(
    ("module_class", "by_hand", "state_size"),
    [
        (EncoderFirst, encoded, 4),
        (TwoLayerLSTM, plain, 16),
        (InASequential, sequential, 4),
        (ManyThings, plain, 4),
        (ManualOptimisation, plain, 4),
        (TimeFirstRNN, plain, 4),
        (ProjectedLSTM, plain, 18),
    ],
)
def test_an_unchanged_module_trains_as_by_hand(
    module_class: type[Regressor], by_hand: Callable[..., Any], state_size: int
) -> None:
    orders, dropout = shuffles(3), module_class is TwoLayerLSTM
    mine, other, untrained = seeded(module_class), seeded(module_class), seeded(module_class)
    callback = MPTTCallback(windows=WINDOWS)
    torch.manual_seed(1)
    expected = train_by_hand(other, by_hand, state_size, orders, every_step=not dropout)

    quiet_trainer([callback, DropoutNumbers()]).fit(mine, loader(orders))

    assert_same_weights(mine, other)
    memory = callback.memory
    assert isinstance(memory, StateMap)
    assert memory.state_size == state_size
    assert np.allclose(memory.mu.numpy(), np.stack(list(expected.mu.values())), rtol=0, atol=1e-6)
    # It is no idle agreement: the weights moved, and all windows but the first of each site have a message.
    assert any((mine.state_dict()[name] - value).abs().max() > 1e-2 for name, value in untrained.state_dict().items())
    assert (memory.mu.abs().amax(dim=1) > 1e-3).tolist() == [start > 0 for _, start, _ in TABLE]


@pytest.mark.parametrize("delta", [0.0, 0.5])
def test_counts_and_means_within_an_epoch_are_those_by_hand(delta: float) -> None:
    orders, callback = shuffles(2), MPTTCallback(delta=delta, windows=WINDOWS)
    found: list[tuple[Tensor, Tensor]] = []
    expected: list[dict[int, list[Any]]] = []

    class Look(pl.Callback):
        def on_train_epoch_end(self, *args: Any) -> None:
            found.append((callback.memory.count.clone(), callback.memory.mean.clone()))

    train_by_hand(
        seeded(Regressor), plain, 4, orders, delta=delta, before_propagate=lambda memory: expected.append(memory.writes)
    )
    quiet_trainer([Look(), callback], max_epochs=2).fit(seeded(Regressor), loader(orders))

    for (count, mean), writes in zip(found, expected, strict=True):
        assert count.tolist() == [len(writes[v]) for v in range(len(TABLE))]
        by_hand = np.stack([np.mean(writes[v], axis=0) if writes[v] else np.zeros(4) for v in range(len(TABLE))])
        assert np.allclose(mean.numpy(), by_hand, rtol=0, atol=1e-6)


class TwoLayers(Regressor):
    """Two recurrent layers that see the same inputs; the first is the named one of `Regressor`."""

    def __init__(self) -> None:
        super().__init__()
        del self.gru
        self.encoder = nn.ModuleDict({"gru": nn.GRU(FEATURES, 4, batch_first=True)})
        self.decoder = nn.ModuleDict({"lstm": nn.LSTM(4, 3, batch_first=True)})
        self.head = nn.Linear(3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.decoder["lstm"](self.encoder["gru"](x)[0])[0])


def both(module: Any, x: Tensor, state: Tensor, ends: list[int]) -> tuple[Tensor, dict[int, Tensor]]:
    encoded, first = walk(module.encoder["gru"], x, state[:, :4], ends)
    decoded, second = walk(module.decoder["lstm"], encoded, state[:, 4:], ends)
    return module.head(decoded), {position: torch.cat([first[position], second[position]], 1) for position in first}


def encoder_only(module: Any, x: Tensor, state: Tensor, ends: list[int]) -> tuple[Tensor, dict[int, Tensor]]:
    encoded, states = walk(module.encoder["gru"], x, state, ends)
    return module.head(module.decoder["lstm"](encoded)[0]), states


def test_one_of_several_layers_is_named() -> None:
    orders, mine, other = shuffles(3), seeded(TwoLayers), seeded(TwoLayers)
    callback = MPTTCallback(rnn="encoder.gru", windows=WINDOWS)
    expected = train_by_hand(other, encoder_only, 4, orders)
    quiet_trainer([callback]).fit(mine, loader(orders))
    assert_same_weights(mine, other)
    assert np.allclose(callback.memory.mu.numpy(), np.stack(list(expected.mu.values())), rtol=0, atol=1e-6)


def test_two_layers_have_a_memory_each_by_name() -> None:
    orders, mine, other = shuffles(3), seeded(TwoLayers), seeded(TwoLayers)
    callback = MPTTCallback(rnn=["encoder.gru", "decoder.lstm"], windows=WINDOWS)
    expected = np.stack(list(train_by_hand(other, both, 10, orders).mu.values()))
    quiet_trainer([callback]).fit(mine, loader(orders))
    assert_same_weights(mine, other)
    memory = callback.memory
    assert isinstance(memory, dict)
    assert list(memory) == ["encoder.gru", "decoder.lstm"]
    assert np.allclose(memory["encoder.gru"].mu.numpy(), expected[:, :4], rtol=0, atol=1e-6)
    assert np.allclose(memory["decoder.lstm"].mu.numpy(), expected[:, 4:], rtol=0, atol=1e-6)


def test_a_state_of_one_layer_that_is_not_finite_is_filed_for_no_layer() -> None:
    class DecoderDiverges(TwoLayers):
        def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
            encoded = self.encoder["gru"](batch["x"])[0]
            self.decoder["lstm"](encoded * (torch.nan if batch_idx == 1 else 1.0))
            return self.head(encoded[..., :3]).square().mean()

    counts: dict[str, list[int]] = {}

    class Look(pl.Callback):
        def on_train_epoch_end(self, *args: Any) -> None:
            counts.update({name: one.count.tolist() for name, one in callback.memory.items()})

    order = list(range(len(TABLE)))
    callback = MPTTCallback(rnn=["encoder.gru", "decoder.lstm"], windows=WINDOWS)
    with pytest.warns(MPTTWarning, match=r"were not finite, first in batch 1: windows"):
        quiet_trainer([Look(), callback], max_epochs=1).fit(seeded(DecoderDiverges), loader([order]))
    links = slow_links(TABLE, [TABLE[i] for i in order[:3] + order[6:]])
    expected = np.bincount([v for _, v, _ in links], minlength=len(TABLE)).tolist()
    assert counts == {"encoder.gru": expected, "decoder.lstm": expected}


class NoRecurrence(Regressor):
    def __init__(self) -> None:
        super().__init__()
        del self.gru


@pytest.mark.parametrize(
    ("module_class", "rnn", "message"),
    [
        (TwoLayers, None, r'found 2 recurrent layers \(encoder.gru, decoder.lstm\); pass rnn="encoder.gru" or a list'),
        (TwoLayers, "gru", "TwoLayers has no recurrent layer 'gru'; there are encoder.gru, decoder.lstm"),
        (TwoLayers, ["encoder.gru", "x"], "TwoLayers has no recurrent layer 'x'"),
        (TwoLayers, [], "names each layer once, and at least one; found \\[\\]"),
        (TwoLayers, ["encoder.gru", "encoder.gru"], "names each layer once"),
        (NoRecurrence, None, "found no nn.RNN, nn.GRU or nn.LSTM in NoRecurrence.* explicit mode"),
        (NoRecurrence, "gru", "has no recurrent layer 'gru'; there are none"),
    ],
)
def test_a_layer_that_cannot_be_found_is_refused_before_any_training(
    module_class: type[Regressor], rnn: Any, message: str
) -> None:
    callback = MPTTCallback(rnn=rnn, windows=WINDOWS)
    trainer = quiet_trainer([callback])
    with pytest.raises(MPTTError, match=message):
        trainer.fit(module_class(), loader(shuffles(1)))
    assert trainer.global_step == 0


class BuiltLate(Regressor):
    def __init__(self) -> None:
        super().__init__()
        del self.gru

    def configure_model(self) -> None:
        if not hasattr(self, "gru"):
            torch.manual_seed(4)
            self.gru = nn.GRU(FEATURES, 4, batch_first=True)


def test_a_layer_made_in_configure_model_is_found() -> None:
    mine, other, orders, callback = seeded(BuiltLate), seeded(BuiltLate), shuffles(3), MPTTCallback(windows=WINDOWS)
    other.configure_model()
    expected = train_by_hand(other, plain, 4, orders)
    quiet_trainer([callback]).fit(mine, loader(orders))
    assert_same_weights(mine, other)
    assert np.allclose(callback.memory.mu.numpy(), np.stack(list(expected.mu.values())), rtol=0, atol=1e-6)


def test_a_frozen_layer_is_filed_all_the_same() -> None:
    mine, other, orders, callback = seeded(Regressor), seeded(Regressor), shuffles(3), MPTTCallback(windows=WINDOWS)
    for module in (mine, other):
        module.gru.requires_grad_(False)
    expected = train_by_hand(other, plain, 4, orders)
    quiet_trainer([callback]).fit(mine, loader(orders))
    assert_same_weights(mine, other)
    assert np.allclose(callback.memory.mu.numpy(), np.stack(list(expected.mu.values())), rtol=0, atol=1e-6)


def test_a_layer_that_runs_without_gradient_is_filed_all_the_same() -> None:
    class FrozenEncoder(Regressor):
        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                states = self.gru(x)[0]
            return self.head(states)

    mine, other, orders, callback = seeded(FrozenEncoder), seeded(Regressor), shuffles(3), MPTTCallback(windows=WINDOWS)
    other.gru.requires_grad_(False)
    expected = train_by_hand(other, plain, 4, orders)
    quiet_trainer([callback]).fit(mine, loader(orders))
    assert_same_weights(mine, other)
    assert np.allclose(callback.memory.mu.numpy(), np.stack(list(expected.mu.values())), rtol=0, atol=1e-6)


class TwoViews(Regressor):
    """Runs the layer twice for a batch; the first run is on inputs that its last one does not see."""

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        noisy = {**batch, "x": batch["x"] + 1.0}
        first = self.loss(noisy)
        return 0.0 * first + self.loss(batch)


def test_of_several_calls_for_a_batch_the_last_is_filed() -> None:
    mine, other, orders, callback = seeded(TwoViews), seeded(Regressor), shuffles(3), MPTTCallback(windows=WINDOWS)
    expected = train_by_hand(other, plain, 4, orders)
    quiet_trainer([callback]).fit(mine, loader(orders))
    assert_same_weights(mine, other)
    assert np.allclose(callback.memory.mu.numpy(), np.stack(list(expected.mu.values())), rtol=0, atol=1e-6)


class LooksAround(Regressor):
    """Looks at its prediction without gradient before and after the pass that trains."""

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        with torch.no_grad():
            self(batch["x"] + 1.0)
        loss = self.loss(batch)
        with torch.no_grad():
            self(batch["x"] + 1.0)
            self.eval()
            self(batch["x"] + 2.0)
            self.train()
        return loss


def test_a_look_without_gradient_around_the_pass_that_trains_is_not_filed() -> None:
    mine, other, orders, callback = seeded(LooksAround), seeded(Regressor), shuffles(3), MPTTCallback(windows=WINDOWS)
    expected = train_by_hand(other, plain, 4, orders)
    quiet_trainer([callback]).fit(mine, loader(orders))
    assert_same_weights(mine, other)
    assert np.allclose(callback.memory.mu.numpy(), np.stack(list(expected.mu.values())), rtol=0, atol=1e-6)


class NeverRuns(Regressor):
    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        return self.head(torch.zeros(1, 4)).sum()


def test_a_layer_that_training_never_runs_is_an_error_at_the_end_of_the_epoch() -> None:
    with pytest.raises(MPTTError, match="caught no state in this epoch: training_step did not run gru"):
        quiet_trainer([MPTTCallback(windows=WINDOWS)]).fit(NeverRuns(), loader(shuffles(1)))


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_module_trains_as_by_hand_without_compiling_again_for_each_batch(
    backend: str,
) -> None:
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    orders, callback = shuffles(3), MPTTCallback(windows=WINDOWS)
    mine, other = seeded(EncoderFirst), seeded(EncoderFirst)
    expected = train_by_hand(other, encoded, 4, orders)
    quiet_trainer([callback]).fit(torch.compile(mine, backend=backend), loader(orders))
    assert_same_weights(mine, other)
    assert np.allclose(callback.memory.mu.numpy(), np.stack(list(expected.mu.values())), rtol=0, atol=1e-6)
    assert 0 < torch._dynamo.utils.counters["stats"]["unique_graphs"] < 12


def test_a_named_layer_that_a_batch_leaves_out_is_refused() -> None:
    class Sometimes(TwoLayers):
        def forward(self, x: Tensor) -> Tensor:
            return self.encoder["gru"](x)[0][..., :1] if self.training else super().forward(x)

    callback = MPTTCallback(rnn=["encoder.gru", "decoder.lstm"], windows=WINDOWS)
    with pytest.raises(MPTTError, match=r"ran without decoder\.lstm in this batch; name only layers that always run"):
        quiet_trainer([callback]).fit(Sometimes(), loader(shuffles(1)))
