"""Where the memory lives, and in what precision: the training is the same."""

from __future__ import annotations

import gc
import logging
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from handmade import TABLE, Regressor, loader, quiet_trainer, seeded, shuffles
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor

from mptt import MPTTError, WindowIndex, storage
from mptt.callbacks import MPTTCallback
from mptt.offload import Offload

WINDOWS = WindowIndex(*zip(*TABLE, strict=True))


class Offloaded(pl.Callback):
    """The way of a module on a GPU with its memory on the host, without a GPU."""

    def __init__(self, callback: MPTTCallback) -> None:
        self.callback = callback

    def on_train_start(self, *args: Any) -> None:
        self.callback._memory._offload = self.offload = Offload(torch.device("cpu"))  # type: ignore[union-attr]

    def on_train_end(self, *args: Any) -> None:
        assert len(self.offload._states._buffer) > 0  # it was used


class Counts(pl.Callback):
    """The memory before it is propagated; stands before the callback in the list."""

    def __init__(self, callback: MPTTCallback) -> None:
        self.callback, self.found = callback, []

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        memory = self.callback.memory
        self.found.append([memory.mu.clone(), memory.mean.clone(), memory.count.clone()])


def fit(callback: MPTTCallback, epochs: int = 3, more: Any = (), **settings: Any) -> tuple[Any, list[list[Tensor]]]:
    counts, module = Counts(callback), seeded(Regressor)
    trainer = quiet_trainer([counts, callback, *more], max_epochs=epochs, **settings)
    trainer.fit(module, loader(shuffles(5)))
    return module, counts.found


def assert_same(one: tuple[Any, list[list[Tensor]]], other: tuple[Any, list[list[Tensor]]]) -> None:
    for name, value in one[0].state_dict().items():
        assert torch.equal(value, other[0].state_dict()[name]), name
    assert len(one[1]) == len(other[1]) == 3
    for mine, theirs in zip(one[1], other[1], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))
    assert one[1][-1][2].sum() > 0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("device", ["cpu", "disk"])
def test_training_is_bit_for_bit_the_same_wherever_the_memory_lives(tmp_path: Path, device: str, dtype: Any) -> None:
    reference = fit(MPTTCallback(windows=WINDOWS, dtype=dtype))
    there = fit(MPTTCallback(windows=WINDOWS, device=device, dtype=dtype), default_root_dir=tmp_path)
    assert_same(reference, there)


@pytest.mark.parametrize("device", ["cpu", "disk"])
def test_training_is_bit_for_bit_the_same_with_states_that_are_filed_later(tmp_path: Path, device: str) -> None:
    callback = MPTTCallback(windows=WINDOWS, device=device)
    assert_same(
        fit(MPTTCallback(windows=WINDOWS)), fit(callback, more=[Offloaded(callback)], default_root_dir=tmp_path)
    )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("device", ["cpu", "disk"])
def test_training_on_a_gpu_is_the_same_with_the_memory_on_the_host(tmp_path: Path, device: str, dtype: Any) -> None:
    runs = [
        fit(MPTTCallback(windows=WINDOWS, device=where, dtype=dtype), accelerator="gpu", default_root_dir=tmp_path)
        for where in ("auto", device)
    ]
    for mine, theirs in zip(*(found for _, found in runs), strict=True):
        assert all(torch.allclose(a.float().cpu(), b.float(), atol=1e-5) for a, b in zip(mine, theirs, strict=True))


def test_a_checkpoint_has_the_writes_of_states_that_are_filed_later(tmp_path: Path) -> None:
    saved = []
    for name in ("at once", "later"):
        callback = MPTTCallback(windows=WINDOWS)
        saver = ModelCheckpoint(tmp_path / name, save_top_k=-1, filename="{step}", every_n_train_steps=2)
        more = [saver] if name == "at once" else [Offloaded(callback), saver]
        fit(callback, epochs=2, more=more, enable_checkpointing=True)
        saved.append([torch.load(tmp_path / name / f"step={step}.ckpt", weights_only=True) for step in (2, 4)])
    for one, other in zip(*saved, strict=True):
        assert one["mptt_memory"]["maps"]["gru"]["count"].sum() > 0
        for part in ("mu", "mean", "count"):
            assert torch.equal(one["mptt_memory"]["maps"]["gru"][part], other["mptt_memory"]["maps"]["gru"][part])
        assert torch.equal(one["mptt_memory"]["last_write"], other["mptt_memory"]["last_write"])
        assert torch.equal(one["mptt_memory"]["distance"], other["mptt_memory"]["distance"])


def test_half_precision_stays_close(tmp_path: Path) -> None:
    whole, half = MPTTCallback(windows=WINDOWS), MPTTCallback(windows=WINDOWS, dtype="bfloat16")
    fit(whole), fit(half)
    assert (half.memory.mu.dtype, half.memory.mean.dtype) == (torch.bfloat16, torch.bfloat16)
    assert torch.allclose(half.memory.mu.float(), whole.memory.mu, rtol=0.02, atol=0.005)
    assert not torch.equal(half.memory.mu.float(), whole.memory.mu)


def test_a_run_in_float32_goes_on_in_half_precision_on_disk(tmp_path: Path) -> None:
    whole, half = MPTTCallback(windows=WINDOWS), MPTTCallback(windows=WINDOWS, dtype="bfloat16", device="disk")
    trainer = quiet_trainer([whole], max_epochs=2)
    trainer.fit(seeded(Regressor), loader(shuffles(5)))
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    before: list[Tensor] = []

    class Look(pl.Callback):
        def on_train_start(self, *args: Any) -> None:
            before.append(half.memory.mu.clone())

    quiet_trainer([half, Look()], max_epochs=3, default_root_dir=tmp_path).fit(
        seeded(Regressor), loader(shuffles(5)), ckpt_path=tmp_path / "run.ckpt"
    )
    assert torch.equal(before[0], whole.memory.mu.bfloat16())
    assert not torch.equal(half.memory.mu, before[0])


def test_a_memory_on_disk_is_readable_after_fit_and_leaves_no_file(tmp_path: Path) -> None:
    reference, callback = MPTTCallback(windows=WINDOWS), MPTTCallback(windows=WINDOWS, device="disk")
    fit(reference)
    fit(callback, default_root_dir=tmp_path)
    gc.collect()
    assert torch.equal(callback.memory.mu, reference.memory.mu)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("given", [True, False])
def test_the_start_of_fit_says_what_the_memory_is(tmp_path: Path, given: bool, caplog: Any) -> None:
    folder = tmp_path / "memory" if given else tmp_path / "root"
    callback = MPTTCallback(windows=WINDOWS, device="disk", memory_dir=folder if given else None)
    with pytest.raises(MPTTError, match="no memory before the start of fit"):
        _ = callback.memory_report
    logger = logging.getLogger("pytorch_lightning")
    with caplog.at_level(logging.INFO), pytest.MonkeyPatch.context() as patch:
        patch.setattr(logger, "propagate", True)
        patch.setattr(logging.getLogger("pytorch_lightning.utilities.rank_zero"), "propagate", True)
        fit(callback, epochs=1, default_root_dir=tmp_path / "root")
    assert callback.memory_report == f"9 rows of 4 float32 on disk ({folder}), 0.00 GiB"
    assert f"MPTT memory: {callback.memory_report}" in caplog.text
    assert folder.is_dir()


def test_a_memory_that_does_not_fit_is_refused_at_the_start_of_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "free_memory", lambda: 2 * 9 * 4 * 4 - 1)
    callback = MPTTCallback(windows=WINDOWS)
    trainer = quiet_trainer([callback])
    with pytest.raises(MPTTError, match=r'MPTT memory of 9 windows takes 288 .* 287 .*"disk".*"bfloat16"'):
        trainer.fit(seeded(Regressor), loader(shuffles(3)))
    fit(MPTTCallback(windows=WINDOWS, dtype="bfloat16"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"device": "dsik"}, "a torch device or on \"disk\", found 'dsik'"),
        ({"dtype": "float16"}, "dtype is float32 or bfloat16, found 'float16'"),
        ({"memory_dir": "somewhere"}, 'Only a memory on "disk" has a folder, found somewhere for "auto"'),
    ],
)
def test_what_no_memory_can_be_is_refused_at_once(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(MPTTError, match=message):
        MPTTCallback(**arguments)
