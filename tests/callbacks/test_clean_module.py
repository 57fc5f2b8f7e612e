"""Nothing of the callback remains in the module, whatever ends the fit, and copies of it are clean."""

from __future__ import annotations

import copy
import pickle
import signal
from collections.abc import Iterator
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from handmade import FEATURES, TABLE, Regressor, in_order, loader, quiet_trainer, seeded, shuffles, stretches
from torch import Tensor, nn

from mptt import MPTTError, WindowIndex
from mptt.callbacks import MPTTCallback, StatefulCallback

WINDOWS = WindowIndex(*zip(*TABLE, strict=True))


def assert_clean(module: Any) -> None:
    untouched = Regressor()
    assert module.gru.__dict__.keys() == untouched.gru.__dict__.keys()
    assert list(module.state_dict()) == list(untouched.state_dict())
    assert all(not one._forward_hooks and not one._forward_pre_hooks for one in module.modules())
    x = torch.randn(5, 9, FEATURES)  # of no size that a batch had
    for one in (module, copy.deepcopy(module), pickle.loads(pickle.dumps(module.gru))):
        layer = one.gru if one is not None and hasattr(one, "gru") else one
        untouched.gru.load_state_dict(module.gru.state_dict())
        assert torch.equal(layer(x)[0], untouched.gru(x)[0])


@pytest.fixture
def keeps_ctrl_c() -> Iterator[None]:
    """Lightning turns SIGINT off on its way out."""
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)


def test_the_module_is_as_before_after_fit_validate_test_and_predict() -> None:
    module, data = seeded(Regressor), in_order(stretches(7))
    trainer = quiet_trainer([MPTTCallback(windows=WINDOWS)])
    trainer.fit(module, loader(shuffles(3)), data)
    assert_clean(module)
    for verb in ("validate", "test", "predict"):
        getattr(trainer, verb)(module, data)
        assert_clean(module)


@pytest.mark.usefixtures("keeps_ctrl_c")
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("step", ["training_step", "validation_step", "backward", "on_train_batch_start"])
def test_the_module_is_as_before_after_an_exception(step: str, error: type[BaseException]) -> None:
    class Breaks(Regressor):
        pass

    def breaks(self: Any, *args: Any, **kwargs: Any) -> None:
        assert "forward" in self.gru.__dict__
        raise error("on purpose")

    setattr(Breaks, step, breaks)
    module = seeded(Breaks)
    trainer = quiet_trainer([MPTTCallback(windows=WINDOWS)], num_sanity_val_steps=0)
    with pytest.raises((error, SystemExit)):  # Lightning turns Ctrl-C into SystemExit
        trainer.fit(module, loader(shuffles(3)), in_order(stretches(7)))
    assert_clean(module)


def test_the_module_is_as_before_after_the_callback_itself_refuses() -> None:
    class OwnState(Regressor):
        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.gru(x, torch.zeros(1, len(x), 4))[0])

    module = seeded(OwnState)
    with pytest.raises(MPTTError, match="passes its own initial state"):
        quiet_trainer([MPTTCallback(windows=WINDOWS)]).fit(module, loader(shuffles(3)))
    assert_clean(module)


def test_a_callback_can_be_used_again_after_an_exception() -> None:
    class BreaksOnce(Regressor):
        broken = False

        def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
            if not self.broken:
                self.broken = True
                raise RuntimeError("on purpose")
            return self.loss(batch)

    module, callback = seeded(BreaksOnce), MPTTCallback(windows=WINDOWS)
    with pytest.raises(RuntimeError):
        quiet_trainer([callback]).fit(module, loader(shuffles(3)))
    quiet_trainer([callback]).fit(module, loader(shuffles(3)))
    again, plain = MPTTCallback(windows=WINDOWS), seeded(Regressor)
    quiet_trainer([again]).fit(plain, loader(shuffles(3)))
    assert torch.equal(callback.memory.mu, again.memory.mu)


def test_a_forward_that_somebody_else_put_on_the_layer_is_used_and_left_there() -> None:
    module, calls = seeded(Regressor), []

    def counted(x: Tensor, hx: Any = None) -> Any:
        calls.append(len(x))
        return nn.GRU.forward(module.gru, x, hx)

    module.gru.forward = counted
    quiet_trainer([MPTTCallback(windows=WINDOWS)], max_epochs=1).fit(module, loader(shuffles(1)))
    assert calls == [3, 3, 3]
    assert module.gru.forward is counted


class Copies(pl.Callback):
    """Keeps copies of the module as they are at each hook of a batch, as an average of weights would."""

    def __init__(self) -> None:
        self.kept: list[Any] = []

    def on_train_batch_start(self, trainer: pl.Trainer, module: Any, *args: Any) -> None:
        self.kept.append(copy.deepcopy(module))

    on_train_batch_end = on_validation_batch_start = on_validation_batch_end = on_train_batch_start
    on_before_zero_grad = on_train_batch_start


class CopiesItself(Regressor):
    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        object.__setattr__(self, "twin", copy.deepcopy(self))
        return self.loss(batch)


def expected_memory() -> Tensor:
    callback = MPTTCallback(windows=WINDOWS)
    quiet_trainer([callback]).fit(seeded(Regressor), loader(shuffles(3)))
    return callback.memory.mu


@pytest.mark.parametrize("first", [True, False])
def test_copies_taken_during_training_do_not_disturb_it_and_work_on_their_own(first: bool) -> None:
    callback, copies, module = MPTTCallback(windows=WINDOWS), Copies(), seeded(Regressor)
    callbacks = [copies, callback] if first else [callback, copies]
    quiet_trainer(callbacks).fit(module, loader(shuffles(3)), in_order(stretches(7)))
    assert torch.equal(callback.memory.mu, expected_memory())
    assert len(copies.kept) > 9
    x = torch.randn(5, 9, FEATURES)
    for kept in copies.kept:
        plain = Regressor()
        plain.load_state_dict(kept.state_dict())
        assert torch.equal(kept(x), plain(x))
        again = pickle.loads(pickle.dumps(kept.gru))
        assert torch.equal(again(x)[0], plain.gru(x)[0])


def test_a_copy_taken_inside_the_training_step_works_on_its_own() -> None:
    callback, module = MPTTCallback(windows=WINDOWS), seeded(CopiesItself)
    quiet_trainer([callback]).fit(module, loader(shuffles(3)))
    assert torch.equal(callback.memory.mu, expected_memory())
    twin, plain, x = module.twin, Regressor(), torch.randn(5, 9, FEATURES)
    plain.load_state_dict(twin.state_dict())
    assert torch.equal(twin(x), plain(x))
    plain(x).sum().backward()
    twin(x).sum().backward()
    assert torch.equal(twin.gru.weight_hh_l0.grad, plain.gru.weight_hh_l0.grad)


class Predicts(pl.Callback):
    """Draws the prediction of some series at the end of a batch."""

    def __init__(self, eval_mode: bool) -> None:
        self.eval_mode = eval_mode

    @torch.no_grad()
    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, *args: Any) -> None:
        module.train(not self.eval_mode)
        x = torch.randn(5, 9, FEATURES)
        untouched = copy.deepcopy(nn.GRU(FEATURES, 4, batch_first=True))
        untouched.load_state_dict(module.gru.state_dict())
        assert torch.equal(module.gru(x)[0], untouched(x)[0])
        module.train()


@pytest.mark.parametrize("eval_mode", [True, False])
def test_another_callback_may_run_the_module_after_a_batch(eval_mode: bool) -> None:
    callback, module = MPTTCallback(windows=WINDOWS), seeded(Regressor)
    quiet_trainer([callback, Predicts(eval_mode)]).fit(module, loader(shuffles(3)))
    assert torch.equal(callback.memory.mu, expected_memory())


def test_the_module_saves_and_copies_clean_in_the_middle_of_a_batch() -> None:
    class SavesItself(Regressor):
        def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
            assert list(self.state_dict()) == list(Regressor().state_dict())
            return self.loss(batch)

    quiet_trainer([StatefulCallback(training=False)], max_epochs=1).fit(seeded(SavesItself), loader(shuffles(1)))
    quiet_trainer([MPTTCallback(windows=WINDOWS)], max_epochs=1).fit(seeded(SavesItself), loader(shuffles(1)))
