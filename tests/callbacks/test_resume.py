"""Checkpoints: the memory travels with them, and a resumed run ends where the uninterrupted one does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from handmade import EXACT_LIGHTNING, TABLE, Regressor, in_order, loader, quiet_trainer, seeded, shuffles, stretches
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.strategies import SingleDeviceStrategy
from torch import Tensor

from mptt import MPTTError, MPTTWarning, WindowIndex
from mptt.callbacks import MPTTCallback, ScheduledSamplingCallback, SequentialStatefulCallback, StatefulCallback

WINDOWS = WindowIndex(*zip(*TABLE, strict=True))
EPOCHS = 5
BATCHES = 3  # in an epoch
LAST_BATCH = "Lightning before 2.5 begins an epoch again of which all batches are trained"


class Adams(Regressor):
    """With an optimizer that has a state of its own."""

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=0.02)


def callback_for(linkage: bool) -> MPTTCallback:
    if linkage:
        return MPTTCallback(warmup_epochs=2, windows=WINDOWS, series=in_order(stretches(7)))
    return MPTTCallback(windows=WINDOWS)


def fit(
    callback: MPTTCallback,
    validate: bool,
    epochs: int = EPOCHS,
    more: Sequence[Any] = (),
    ckpt_path: Path | None = None,
    **settings: Any,
) -> Adams:
    module = seeded(Adams)
    validation = in_order(stretches(7)) if validate else None
    trainer = quiet_trainer([callback, *more], max_epochs=epochs, **settings)
    trainer.fit(module, loader(shuffles(EPOCHS)), validation, ckpt_path=ckpt_path)
    return module


def assert_identical(module: Any, callback: MPTTCallback, other: Any, other_callback: MPTTCallback) -> None:
    for name, value in module.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name
    for name in ("mu", "mean", "count"):
        assert torch.equal(getattr(callback.memory, name), getattr(other_callback.memory, name)), name


@pytest.mark.parametrize("linkage", [False, True])
@pytest.mark.parametrize("validate", [False, True])
@pytest.mark.parametrize(
    "when",
    [
        {"every_n_train_steps": BATCHES},
        {"every_n_epochs": 1, "save_on_train_epoch_end": True},
        {"every_n_epochs": 1, "save_on_train_epoch_end": False},
    ],
    ids=["last-batch", "epoch-end", "validation-end"],
)
def test_a_run_resumed_at_any_epoch_ends_bit_identical(
    tmp_path: Path, when: dict[str, Any], validate: bool, linkage: bool
) -> None:
    if "every_n_train_steps" in when and not EXACT_LIGHTNING:
        pytest.skip(LAST_BATCH)
    if not validate and when.get("save_on_train_epoch_end") is False:
        when = when | {"save_on_train_epoch_end": None}  # Lightning's own choice
    whole = callback_for(linkage)
    saver = ModelCheckpoint(tmp_path, save_top_k=-1, filename="{step}", **when)
    reference = fit(whole, validate, more=[saver], enable_checkpointing=True)
    for epoch in range(1, EPOCHS):
        again = callback_for(linkage)
        path = tmp_path / f"step={epoch * BATCHES}.ckpt"
        resumed = fit(again, validate, ckpt_path=path)
        assert_identical(resumed, again, reference, whole)


@pytest.mark.skipif(not EXACT_LIGHTNING, reason=LAST_BATCH)
def test_a_run_of_a_number_of_steps_resumes_too(tmp_path: Path) -> None:
    whole, again, limits = callback_for(False), callback_for(False), {"max_steps": EPOCHS * BATCHES}
    saver = ModelCheckpoint(tmp_path, save_top_k=-1, filename="{step}", every_n_train_steps=BATCHES)
    reference = fit(whole, False, epochs=-1, more=[saver], enable_checkpointing=True, **limits)
    resumed = fit(again, False, epochs=-1, ckpt_path=tmp_path / f"step={2 * BATCHES}.ckpt", **limits)
    assert_identical(resumed, again, reference, whole)


@pytest.mark.skipif(not EXACT_LIGHTNING, reason=LAST_BATCH)
def test_a_strategy_that_restores_after_the_start_of_fit_resumes_too(tmp_path: Path) -> None:
    class Sharded(SingleDeviceStrategy):
        restore_checkpoint_after_setup = True

    whole, again = callback_for(True), callback_for(True)
    saver = ModelCheckpoint(tmp_path, save_top_k=-1, filename="{step}", every_n_train_steps=BATCHES)
    reference = fit(whole, False, more=[saver], enable_checkpointing=True)
    resumed = fit(again, False, ckpt_path=tmp_path / f"step={3 * BATCHES}.ckpt", strategy=Sharded(device="cpu"))
    assert_identical(resumed, again, reference, whole)


def saved_run(folder: Path, callback: MPTTCallback | None = None, module: Any = None, epochs: int = 2) -> Path:
    callback = callback or callback_for(False)
    trainer = quiet_trainer([callback], max_epochs=epochs)
    trainer.fit(module or seeded(Adams), loader(shuffles(EPOCHS)), in_order(stretches(7)))
    trainer.save_checkpoint(folder / "run.ckpt")
    return folder / "run.ckpt"


def test_a_checkpoint_is_tensors_and_plain_values(tmp_path: Path) -> None:
    callback = callback_for(False)
    content = torch.load(saved_run(tmp_path, callback), weights_only=True)
    assert torch.equal(content["mptt_memory"]["maps"]["gru"]["mu"], callback.memory.mu)
    assert content["mptt_memory"]["epoch"] == 2


def test_the_weights_load_into_a_module_without_the_callback(tmp_path: Path) -> None:
    path = saved_run(tmp_path)
    weights = torch.load(path, weights_only=True)["state_dict"]
    assert list(weights) == list(Adams().state_dict())
    plain = Adams.load_from_checkpoint(path)
    assert torch.equal(plain.gru.weight_hh_l0, weights["gru.weight_hh_l0"])


def test_resuming_with_other_windows_names_the_difference(tmp_path: Path) -> None:
    path = saved_run(tmp_path)
    fewer = MPTTCallback(windows=WindowIndex(*zip(*TABLE[:-1], strict=True)))
    trainer = quiet_trainer([fewer], max_epochs=4)
    with pytest.raises(MPTTError, match=r"windows WindowIndex\(9 windows.*, here WindowIndex\(8 windows"):
        trainer.fit(seeded(Adams), loader(shuffles(EPOCHS)), ckpt_path=path)
    trainer = quiet_trainer([fewer], max_epochs=1)  # the same callback afresh: nothing of the failed one is left
    trainer.fit(seeded(Adams), loader([list(range(8))]))
    assert len(fewer.memory) == 8


def test_resuming_with_another_state_size_or_other_layers_names_the_difference(tmp_path: Path) -> None:
    class Any3(Adams):
        """A core whose states are cut to the size that the callback asks for."""

        size = 3

        def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Any:
            output = self.gru(batch["x"])[0]
            loss = (self.head(output) - batch["y"]).square().mean()
            return {"loss": loss, "states": output[..., : self.size]}

        def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> Any:
            return {"states": self.gru(batch["x"])[0][..., : self.size]}

    class Any2(Any3):
        size = 2

    path = saved_run(tmp_path, MPTTCallback(state_size=3, windows=WINDOWS), seeded(Any3))
    with pytest.raises(MPTTError, match="state size 3, here 2"):
        quiet_trainer([MPTTCallback(state_size=2, windows=WINDOWS)], max_epochs=4).fit(
            seeded(Any2), loader(shuffles(EPOCHS)), ckpt_path=path
        )
    with pytest.raises(MPTTError, match="is of the recurrent layers states, but here they are gru"):
        quiet_trainer([callback_for(False)], max_epochs=4).fit(seeded(Adams), loader(shuffles(EPOCHS)), ckpt_path=path)


def test_a_memory_of_other_windows_is_reset_on_purpose(tmp_path: Path) -> None:
    path = saved_run(tmp_path)
    table = WindowIndex(*zip(*TABLE[:-1], strict=True))
    callback = MPTTCallback(windows=table, on_mismatch="reset")
    trainer, orders = quiet_trainer([callback], max_epochs=3), shuffles(EPOCHS, len(table))
    with pytest.warns(MPTTWarning, match=r"windows WindowIndex\(9 windows.*here WindowIndex\(8.*from an empty one"):
        trainer.fit(seeded(Adams), loader(orders), ckpt_path=path)
    assert callback._ready().epoch == 3
    assert len(callback.memory) == 8
    written = callback.memory.mu.abs().amax(dim=1) > 0
    assert torch.equal(written, torch.from_numpy(table.start > 0))  # of the one epoch, from nothing


def test_a_memory_of_other_layers_is_reset_on_purpose(tmp_path: Path) -> None:
    path = saved_run(tmp_path)
    content = torch.load(path, weights_only=True)
    content["mptt_memory"]["maps"] = {"encoder": content["mptt_memory"]["maps"]["gru"]}
    torch.save(content, path)
    with pytest.raises(MPTTError, match="layers encoder, but here they are gru"):
        fit(callback_for(False), False, ckpt_path=path)
    callback = MPTTCallback(windows=WINDOWS, on_mismatch="reset")
    with pytest.warns(MPTTWarning, match="layers encoder, but here they are gru.*from an empty one"):
        fit(callback, False, epochs=3, ckpt_path=path)


def test_reset_takes_a_memory_that_fits_and_refuses_a_damaged_one(tmp_path: Path) -> None:
    whole, again = callback_for(False), MPTTCallback(windows=WINDOWS, on_mismatch="reset")
    reference, path = fit(whole, False), saved_run(tmp_path)
    assert_identical(fit(again, False, ckpt_path=path), again, reference, whole)
    content = torch.load(path, weights_only=True)
    content["mptt_memory"]["maps"]["gru"]["mu"] = torch.zeros(2, 2)
    torch.save(content, path)
    with pytest.raises(MPTTError, match="damaged"):
        fit(MPTTCallback(windows=WINDOWS, on_mismatch="reset"), False, ckpt_path=path)


def test_on_mismatch_is_one_of_two() -> None:
    with pytest.raises(MPTTError, match='"error" or "reset", found \'ignore\''):
        MPTTCallback(on_mismatch="ignore")  # type: ignore[arg-type]


class Counts(Adams):
    """Notes the counts at the end of an epoch, before they are propagated, and what was trained in it."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: list[Tensor] = []
        self.trained: list[list[int]] = []

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Any:
        self.trained.append(batch["window"].tolist())
        return super().training_step(batch, batch_idx)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        callback: Any = next(one for one in self.trainer.callbacks if isinstance(one, MPTTCallback))  # type: ignore[attr-defined]
        self.counts.append(callback.memory.count.clone())


@pytest.mark.parametrize("taken", [1, 2])
def test_windows_that_a_loader_without_a_state_repeats_file_nothing_twice(tmp_path: Path, taken: int) -> None:
    saver = ModelCheckpoint(tmp_path, save_top_k=-1, filename="{step}", every_n_train_steps=1)
    whole = callback_for(False)
    module = seeded(Counts)
    quiet_trainer([whole, saver], max_epochs=3, enable_checkpointing=True).fit(module, loader(shuffles(EPOCHS)))
    again, callback = seeded(Counts), callback_for(False)
    trainer = quiet_trainer([callback], max_epochs=3)
    with pytest.warns(MPTTWarning, match=f"after {3 * taken} of 9 windows.*begins that epoch again.*not filed"):
        trainer.fit(again, loader(shuffles(EPOCHS)), ckpt_path=tmp_path / f"step={BATCHES + taken}.ckpt")
    begin = module.trained[BATCHES : 2 * BATCHES]
    assert again.trained[: BATCHES - taken] == begin[: BATCHES - taken]  # what Lightning does
    trained = {window for batch in [*begin[:taken], *again.trained[: BATCHES - taken]] for window in batch}
    expected = torch.zeros(len(TABLE))
    for writer in trained:
        for target, (site, start, _) in enumerate(TABLE):
            at, length = TABLE[writer][1], TABLE[writer][2]
            expected[target] += site == TABLE[writer][0] and at < start <= at + length
    assert torch.equal(again.counts[BATCHES - taken - 1].float(), expected)
    assert torch.equal(again.counts[-1].float(), module.counts[-1].float())  # the next epoch counts as ever


def test_from_the_end_of_an_epoch_a_loader_without_a_state_repeats_nothing(tmp_path: Path) -> None:
    path, callback = saved_run(tmp_path), callback_for(False)
    fit(callback, False, epochs=3, ckpt_path=path)  # an MPTTWarning would be an error


def test_resuming_a_run_without_memory_warns(tmp_path: Path) -> None:
    trainer = quiet_trainer([], max_epochs=2)
    trainer.fit(seeded(Adams), loader(shuffles(EPOCHS)))
    trainer.save_checkpoint(tmp_path / "plain.ckpt")
    callback = callback_for(False)
    with pytest.warns(MPTTWarning, match="holds no MPTT memory; training goes on from an empty one"):
        fit(callback, False, epochs=4, ckpt_path=tmp_path / "plain.ckpt")
    assert (callback.memory.mu.abs().amax(dim=1) > 0).sum() == sum(start > 0 for _, start, _ in TABLE)


def test_a_resume_that_failed_leaves_nothing_for_the_next_fit(tmp_path: Path) -> None:
    path, callback, fresh = saved_run(tmp_path), MPTTCallback(), callback_for(False)
    with pytest.raises(MPTTError, match="needs the table of training windows"):
        fit(callback, False, ckpt_path=path)
    callback.windows = WINDOWS
    assert_identical(fit(callback, False, epochs=1), callback, fit(fresh, False, epochs=1), fresh)


def test_a_checkpoint_without_memory_is_evaluated_without_a_warning(tmp_path: Path) -> None:
    trainer = quiet_trainer([], max_epochs=1)
    trainer.fit(seeded(Adams), loader(shuffles(EPOCHS)))
    trainer.save_checkpoint(tmp_path / "plain.ckpt")
    again = quiet_trainer([callback_for(False)])  # an MPTTWarning would be an error here
    assert again.validate(seeded(Adams), in_order(stretches(7)), ckpt_path=tmp_path / "plain.ckpt", verbose=False)


@pytest.mark.parametrize("verb", ["validate", "test", "predict"])
def test_evaluation_of_a_checkpoint_works_and_takes_no_memory(tmp_path: Path, verb: str) -> None:
    path, callback = saved_run(tmp_path), callback_for(False)
    trainer = quiet_trainer([callback])
    module = seeded(Adams)
    result = getattr(trainer, verb)(module, in_order(stretches(7)), ckpt_path=path)
    expected = Adams.load_from_checkpoint(path)
    direct = getattr(quiet_trainer([StatefulCallback(training=False)]), verb)(expected, in_order(stretches(7)))
    assert str(result) == str(direct)
    with pytest.raises(MPTTError, match="no memory before the start of fit"):
        _ = callback.memory
    quiet_trainer([callback], max_epochs=1).fit(seeded(Adams), loader(shuffles(1)))
    fresh = callback_for(False)
    quiet_trainer([fresh], max_epochs=1).fit(seeded(Adams), loader(shuffles(1)))
    assert torch.equal(callback.memory.mu, fresh.memory.mu)


@pytest.mark.skipif(not EXACT_LIGHTNING, reason=LAST_BATCH)
def test_lanes_resume_at_the_end_of_an_epoch(tmp_path: Path) -> None:
    table = [(0, start, 4) for start in range(0, 20, 4)] + [(1, start, 4) for start in range(0, 12, 4)]
    windows, lanes = WindowIndex(*zip(*table, strict=True)), [[0, 4], [1, 5], [2, 6], [3, 7]]
    x = torch.randn(8, 4, 3)

    def batches() -> Any:
        return in_order([{"x": x[ids], "y": x[ids, :, :1], "window": torch.tensor(ids)} for ids in lanes])

    def run(epochs: int, **more: Any) -> Adams:
        module = seeded(Adams)
        path = more.pop("ckpt_path", None)
        trainer = quiet_trainer([StatefulCallback(windows=windows), *more.pop("more", [])], epochs, **more)
        trainer.fit(module, batches(), ckpt_path=path)
        return module

    saver = ModelCheckpoint(tmp_path, save_top_k=-1, filename="{step}", every_n_train_steps=4)
    reference = run(3, more=[saver], enable_checkpointing=True)
    resumed = run(3, ckpt_path=tmp_path / "step=8.ckpt")
    for name, value in resumed.state_dict().items():
        assert torch.equal(value, reference.state_dict()[name])


def test_lanes_that_a_loader_without_a_state_begins_again_start_from_zeros(tmp_path: Path) -> None:
    windows = WindowIndex([0, 0, 0, 0], [0, 4, 8, 12], 4)
    x, seen = torch.randn(4, 4, 3), []

    class Spy(StatefulCallback):
        def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
            super().on_train_batch_start(trainer, module, batch, batch_idx)
            seen.append((batch_idx, len(self._lanes._lane)))  # type: ignore[union-attr]

    def run(**more: Any) -> None:
        callbacks, path = [Spy(windows=windows), *more.pop("more", [])], more.pop("ckpt_path", None)
        batches = in_order([{"x": x[[nth]], "y": x[[nth], :, :1], "window": torch.tensor([nth])} for nth in range(4)])
        quiet_trainer(callbacks, 1, **more).fit(seeded(Adams), batches, ckpt_path=path)

    saver = ModelCheckpoint(tmp_path, save_top_k=-1, filename="{step}", every_n_train_steps=1)
    run(more=[saver], enable_checkpointing=True)
    assert seen == [(0, 0), (1, 1), (2, 1), (3, 1)]
    seen.clear()
    with pytest.warns(MPTTWarning, match="Spy starts from zero state: the training loader begins that epoch again"):
        run(ckpt_path=tmp_path / "step=2.ckpt")
    assert seen == [(2, 0), (3, 1)]
    content = torch.load(tmp_path / "step=2.ckpt", weights_only=True)
    del content["mptt_carried"]
    torch.save(content, tmp_path / "old.ckpt")
    with pytest.warns(MPTTWarning, match="Spy starts from zero state: it holds no states of Spy"):
        run(ckpt_path=tmp_path / "old.ckpt")


def test_fitting_on_with_the_same_trainer_goes_on_with_the_memory() -> None:
    whole, parts = callback_for(False), callback_for(False)
    reference, module = seeded(Regressor), seeded(Regressor)  # plain SGD: a second fit makes a new optimizer
    quiet_trainer([whole], max_epochs=4).fit(reference, loader(shuffles(EPOCHS)))
    trainer = quiet_trainer([parts], max_epochs=2)
    trainer.fit(module, loader(shuffles(EPOCHS)))
    trainer.fit_loop.max_epochs = 4
    trainer.fit(module, loader(shuffles(EPOCHS)))
    assert_identical(module, parts, reference, whole)


def test_a_new_trainer_starts_with_an_empty_memory() -> None:
    callback, fresh = callback_for(False), callback_for(False)
    fit(callback, False, epochs=3)
    module = fit(callback, False, epochs=2)
    other = fit(fresh, False, epochs=2)
    assert_identical(module, callback, other, fresh)


class Remembers:
    """A loader of ready batches that says how many it gave, and goes on from there."""

    def __init__(self, batches: list[Any]) -> None:
        self.batches, self.given, self.begin = batches, 0, 0

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        begin, self.begin = self.begin, 0
        for nth in range(begin, len(self)):
            self.given = nth + 1
            yield dict(self.batches[nth])

    def state_dict(self) -> dict[str, int]:
        return {"given": self.given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.begin = state["given"]


@pytest.mark.parametrize("taken", [3, 4])
@pytest.mark.parametrize("make", [StatefulCallback, SequentialStatefulCallback])
def test_carried_states_and_summed_gradients_go_on_in_the_middle_of_an_epoch(
    make: Any, taken: int, tmp_path: Path
) -> None:
    windows, x = WindowIndex([0] * 6, range(0, 24, 4), 4), torch.randn(6, 4, 3)
    batches = [{"x": x[[nth]], "y": x[[nth], :, :1], "window": torch.tensor([nth])} for nth in range(6)]

    class Saver(pl.Callback):
        def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
            trainer.save_checkpoint(tmp_path / f"{trainer.current_epoch}-{args[-1] + 1}.ckpt")

    def run(*more: Any, path: Path | None = None) -> Adams:
        module = seeded(Adams)
        trainer = quiet_trainer([make(windows=windows), *more], 2, accumulate_grad_batches=2)
        trainer.fit(module, Remembers(batches), ckpt_path=path)
        return module

    whole, resumed = run(Saver()), run(path=tmp_path / f"1-{taken}.ckpt")
    for name, value in resumed.state_dict().items():
        assert torch.equal(value, whole.state_dict()[name]), name


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (MPTTCallback, "mptt_memory"),
        (StatefulCallback, "mptt_carried"),
        (ScheduledSamplingCallback, "mptt_sampled_predictions"),
    ],
)
def test_a_checkpoint_after_evaluation_alone_has_nothing_of_training(make: Any, key: str, tmp_path: Path) -> None:
    callback = make(windows=WINDOWS)
    trainer, path = quiet_trainer([callback]), tmp_path / "a.ckpt"
    trainer.validate(seeded(Adams), in_order(stretches(7)), verbose=False)
    trainer.save_checkpoint(path)
    assert key not in torch.load(path, weights_only=True)
    again = quiet_trainer([make(windows=WINDOWS)])
    again.validate(seeded(Adams), in_order(stretches(7)), ckpt_path=path, verbose=False)
    assert torch.equal(again.callback_metrics["val_loss"], trainer.callback_metrics["val_loss"])


def test_two_callbacks_put_the_random_numbers_in_once(tmp_path: Path) -> None:
    class Draws(pl.Callback):
        """Between the two, as somebody's own callback may."""

        def on_save_checkpoint(self, *args: Any) -> None:
            self.before = torch.get_rng_state()
            torch.rand(1)

    draws, path = Draws(), tmp_path / "a.ckpt"
    trainer = quiet_trainer([MPTTCallback(windows=WINDOWS, evaluation=None), draws, StatefulCallback(False)], 1)
    trainer.fit(seeded(Adams), loader(shuffles(EPOCHS)))
    trainer.save_checkpoint(path)
    assert torch.equal(torch.load(path, weights_only=True)["mptt_run"]["processes"][0]["random"]["torch"], draws.before)


def test_repeated_windows_are_warned_of_once(tmp_path: Path) -> None:
    saver = ModelCheckpoint(tmp_path, save_top_k=-1, filename="{step}", every_n_train_steps=1)
    quiet_trainer([callback_for(False), saver], 2, enable_checkpointing=True).fit(
        seeded(Adams), loader(shuffles(EPOCHS), batch_size=2)
    )
    with pytest.warns(MPTTWarning, match="not filed a second time") as said:
        quiet_trainer([callback_for(False)], 2).fit(
            seeded(Adams), loader(shuffles(EPOCHS), batch_size=2), ckpt_path=tmp_path / "step=7.ckpt"
        )
    assert sum(one.category is MPTTWarning for one in said) == 1
