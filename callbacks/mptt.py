"""Message Propagation Through Time as a Lightning callback."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_info
from torch import Tensor

from mptt.callbacks.base import Evaluation, RecurrentCallback, window_ids, window_table
from mptt.callbacks.checkpoints import in_our_form
from mptt.callbacks.continuing import begins_again
from mptt.callbacks.guesses import Guesses
from mptt.callbacks.hotstart import Missing, States
from mptt.callbacks.linkage import link, linking_step
from mptt.callbacks.lost import refused_message
from mptt.callbacks.memory import Memory
from mptt.callbacks.processes import Processes, repeats_last_row
from mptt.callbacks.refused import Losses
from mptt.callbacks.shared import SYNCS, SharedMemory, Sync, choose_sync
from mptt.errors import MPTTError, MPTTWarning
from mptt.keymap import Links
from mptt.statemap import StateMap
from mptt.storage import Storage
from mptt.windows import WindowIndex, WindowPart

_SAVED = "mptt_memory"
_LOOK_EVERY = 50  # batches; a look waits for the device
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class Watcher(Protocol):
    """Who looks at the memory while it trains, such as `MessageQuality`."""

    def training_begins(self, trainer: pl.Trainer, module: pl.LightningModule, callback: MPTTCallback) -> None:
        """Before the first batch, with the memory of the checkpoint where there was one."""

    def epoch_over(self, trainer: pl.Trainer, module: pl.LightningModule, callback: MPTTCallback) -> dict[str, Tensor]:
        """After the writes of an epoch, before they are folded into the messages. What it returns is logged."""


class MPTTCallback(RecurrentCallback):
    """Starts each shuffled training window from the message that other windows left for it (arXiv 2309.16882).

    While a window trains, its states pass the steps at which other windows begin. They are filed in `memory`; when such
    a window comes up, in this epoch or the next, it starts from its message instead of zeros. In the first epoch all
    start from zeros. Validation, test and predict feed each series in order, as in `RecurrentCallback`.

    By default ("drop-in") the callback finds the module's one recurrent layer, sets its initial state and catches its
    states, in training batches only; no line of the module changes, and nothing stays in it. The layer must get
    whole windows, batched, and no initial state from the module. Where it is called several times for a batch, each
    call starts from the message, and the states of the last one with gradient are filed. For any other core
    ("explicit"), pass `state_size`: the batch then has `batch["h0"]` (B, S), and `training_step` returns
    `{"loss": ..., "states": ...}` with the states after each step (B, L, S); the evaluation steps return `states`
    likewise.

    States are filed when their batch ends, also where its gradients are accumulated and the optimizer steps later: they
    are those of the weights that the batch ran with.

    All that a training batch needs is `batch["window"]` (B,), the ids of its windows in the table.

    Logged at the end of an epoch: `mptt/share`, windows that have a message; `mptt/age`, mean age of messages in
    epochs; `mptt/distance`, mean distance between a message and the newest write to it, root mean square over the
    units; `mptt/writers`, mean number of this epoch's writes to a message; `mptt/refused`, states that were not filed
    because they were not finite; `mptt/scaled`, states over `max_norm`. `MessageQuality` beside it measures more.

    The memory takes no state that is not finite; the other states of the batch are filed. At the end of an epoch in
    which states or losses were not finite, a warning names the batch, the windows and what to look at. A step that a
    gradient scaler skips (16-mixed) leaves the weights; states that its batch passed are filed if they are finite.

    The memory goes into checkpoints. `fit(ckpt_path=...)` goes on as the run would have, from the middle of an epoch
    too where the training loader has `state_dict` and `load_state_dict`, as that of `SeriesDataModule`. With any other
    loader Lightning then trains the epoch's first batches once more, in place of the rest. Windows among them that had
    filed their states before the checkpoint do not file them a second time, so that none counts double, and a warning
    says so; their weights are trained twice, and the windows of the rest not in that epoch.

    With DDP, the processes' memories are kept together as `sync` says, and samples that Lightning's sampler repeats, so
    that all processes have as many, are trained on and not filed.

    Args:
        delta: weight of the earlier epochs' message against this epoch's writes, in number of writes.
        zero_init_epochs: first epochs in which windows start from zeros (and write).
        warmup_epochs: first epochs without reads and writes; then one pass over each training series sets all
            messages (Enhanced MPTT, linkage reconstruction). 0: none.
        rnn: name of the recurrent layer, or several; by default the only one.
        state_size: numbers in a state, S; chooses explicit mode. By default the module's attribute `state_size`, where
            it has no recurrent layer.
        windows: the table of training windows; by default the DataModule's attribute `windows`.
        device: where the memory lives; "auto": with the module; "cpu": in RAM; "disk": in files, for more than RAM; or
            any torch device. From RAM and disk, messages reach a module on a GPU through pinned memory.
        dtype: of the memory, "float32" or "bfloat16", which halves it.
        memory_dir: folder of the files on "disk"; by default the Trainer's `default_root_dir`. The files have no name
            there, and are gone as soon as neither the callback nor anybody else uses their rows.
        evaluation: "stateful", "independent": from zero state, or None: leave it to another callback.
        tolerance: of states handed on in parallel evaluation; None: series are walked along.
        max_sweeps: of parallel evaluation, which then walks along the rest; by default as many as pay.
        initial_states, missing_states: of evaluation, as of `StatefulCallback`.
        refresh_every: linkage is reconstructed anew before every kth epoch that reads; 0: only after `warmup_epochs`.
        max_refused: states not filed because they were not finite, in all of the training, that are put up with: more
            end it with an error, at the end of the epoch or some 50 batches later. None: any number; warned of.
        max_norm: states of a larger Euclidean norm (of a layer; an LSTM's h and c together) are filed scaled down to
            it. For cores whose states have no bound, an RNN with relu or the cells of an LSTM: several times the usual
            norm. Scaled, not clipped: the units keep their proportions. None: as they are.
        series: for linkage, batches over the training series in order, each with `site`, `start` and `length`; by
            default the DataModule's `series_dataloader()`. They go through `predict_step` if the module has its own,
            else through `validation_step`, with logging off.
        on_mismatch: what to do with a checkpoint's memory of other windows, layers or state size: "error", or "reset":
            warn, and start with an empty one.
        sync: of several processes: "step", each files the writes of all, and the memories are equal at any time;
            "epoch", each reads its own writes, and all are brought together at the end of an epoch; "none", no message
            passes, for a DataModule that gives each process whole sites. By default "none" for
            `SeriesDataModule(shard="site")`, else "step".

    Attributes:
        memory: the StateMap; with several recurrent layers a dict of them, by name of the layer. From the start of fit.
        watchers: who looks at the memory at the end of each epoch.

    Raises:
        MPTTError: at the start of fit or the first batch, for what the callback cannot work with; says what to do.

    Example:
        >>> callback = MPTTCallback(delta=1.0)
        >>> trainer = pl.Trainer(callbacks=[callback], logger=False)
    """

    trains = True
    trains_in_many = True

    def __init__(
        self,
        delta: float = 1.0,
        zero_init_epochs: int = 1,
        warmup_epochs: int = 0,
        rnn: str | Sequence[str] | None = None,
        state_size: int | None = None,
        windows: WindowIndex | None = None,
        device: str = "auto",
        dtype: Literal["float32", "bfloat16"] = "float32",
        memory_dir: str | Path | None = None,
        evaluation: Evaluation = "stateful",
        series: Iterable[Any] | None = None,
        tolerance: float | None = 1e-5,
        max_sweeps: int | None = None,
        refresh_every: int = 0,
        initial_states: States | None = None,
        missing_states: Missing = "refuse",
        max_refused: int | None = None,
        max_norm: float | None = None,
        on_mismatch: Literal["error", "reset"] = "error",
        sync: Sync | None = None,
    ) -> None:
        super().__init__(rnn, state_size, windows, evaluation, tolerance, max_sweeps, initial_states, missing_states)
        counts = {"zero_init_epochs": zero_init_epochs, "warmup_epochs": warmup_epochs, "refresh_every": refresh_every}
        for name, value in {"delta": delta, **counts}.items():
            if not value >= 0:
                raise MPTTError(f"{name} must be 0 or more, found {value}.")
        if max_refused is not None and not max_refused >= 0:
            raise MPTTError(f"max_refused is a number of states of 0 or more, or None, found {max_refused}.")
        if max_norm is not None and not 0 < max_norm < math.inf:
            raise MPTTError(f"max_norm is a finite norm above 0, or None, found {max_norm}.")
        self.max_refused = max_refused
        self.max_norm = max_norm
        if sync is not None and sync not in SYNCS:
            raise MPTTError(f"sync is {', '.join(SYNCS)} or None, found {sync!r}.")
        self.delta = delta
        self.zero_init_epochs = zero_init_epochs
        self.warmup_epochs = warmup_epochs
        if dtype not in _DTYPES:
            raise MPTTError(f"The memory's dtype is {' or '.join(_DTYPES)}, found {dtype!r}.")
        if device != "auto" or memory_dir is not None:
            Storage(device, memory_dir)
        self.device = device
        self.dtype = dtype
        self.memory_dir = memory_dir
        self.series = series
        self.refresh_every = refresh_every
        if on_mismatch not in ("error", "reset"):
            raise MPTTError(f'on_mismatch is "error" or "reset", found {on_mismatch!r}.')
        self.on_mismatch = on_mismatch
        self.sync = sync
        self.watchers: list[Watcher] = []
        self._shared: SharedMemory | None = None  # where there are several processes
        self._memory: Memory | None = None
        self._saved: dict[str, Any] | None = None
        self._ids: Tensor = torch.empty(0, dtype=torch.int64)
        self._target: Tensor = torch.empty(0, dtype=torch.int64)
        self._writers = self._target
        self._losses = Losses()
        self._repeated: int | None = None  # the epoch whose first batches are trained once more after a checkpoint
        self._warned_of_repeats = False

    @property
    def memory(self) -> StateMap | dict[str, StateMap]:
        """The messages.

        Raises:
            MPTTError: before the first fit.
        """
        maps = self._ready().maps
        return next(iter(maps.values())) if len(maps) == 1 else maps

    @property
    def memory_report(self) -> str:
        """How many rows of what the memory has, where they are, and how large they are; also logged at the start.

        Raises:
            MPTTError: before the first fit.
        """
        return str(self._ready())

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuse what is not there yet, before anything runs."""
        super().setup(trainer, pl_module, stage)
        self._saved = self._repeated = None

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Make the memory, or go on with that of the last fit of this Trainer, or of the checkpoint."""
        sizes = self._find_core(pl_module).sizes
        windows = window_table(trainer, self.windows, type(self).__name__)
        sync, owner = None, None
        if trainer.world_size > 1:
            data = trainer.datamodule  # type: ignore[attr-defined]
            sync, owner = choose_sync(self.sync, data, windows, trainer.world_size)
        if owner is not None:
            windows = WindowPart(windows, np.flatnonzero(owner == trainer.global_rank))
        last = self._memory
        going_on = last is not None and trainer.global_step > 0
        if last is None or not (going_on and last.sizes == sizes and last.windows.fingerprint == windows.fingerprint):
            self._memory = last = None  # first, so that two memories never stand
            storage = self._storage(trainer, pl_module)
            dtype = _DTYPES[self.dtype]
            self._memory = Memory(windows, sizes, self.delta, storage, dtype, pl_module.device, self.max_norm)
            self._warned_of_repeats = False
        self._losses = Losses()
        self._shared = None if sync is None else SharedMemory(self._ready(), Processes(trainer), sync, owner)
        rank_zero_info(f"MPTT memory: {self.memory_report}")
        self._ask_for_links(trainer)
        self._restore()
        if self.refresh_every or (self.warmup_epochs and self._ready().linked is None):
            self.series_batches(trainer)
            linking_step(pl_module)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take over the memory of a checkpoint: sharded strategies load theirs only after the start of fit."""
        super().on_train_start(trainer, pl_module)
        self._restore()
        memory = self._ready()
        begun = memory.epoch == trainer.current_epoch and bool(memory.trained.any())
        self._repeated = memory.epoch if begun and begins_again(trainer) else None
        for watcher in self.watchers:
            watcher.training_begins(trainer, pl_module, self)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Reconstruct the linkage where its epoch has come."""
        super().on_train_epoch_start(trainer, pl_module)
        self._open_epoch(trainer, pl_module)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Read: set the initial states."""
        self._open_epoch(trainer, pl_module)
        memory = self._ready()
        rows = memory.windows.rows_of(window_ids(batch, "MPTTCallback").cpu().numpy())
        self._ids = ids = torch.from_numpy(memory.keymap.check(rows))
        row, self._target, position = memory.keymap.unpack(batch, ids)
        if self._repeated == memory.epoch:
            row, self._target, position = self._not_twice(memory, ids, (row, self._target, position))
        if self._shared is not None and repeats_last_row(trainer, batch_idx):
            once = row != len(ids) - 1
            row, self._target, position = row[once], self._target[once], position[once]
        self._writers = ids[row]
        if memory.epoch >= max(self.zero_init_epochs, self.warmup_epochs):
            initial = memory.read_rows(ids)
        else:
            initial = torch.zeros(len(ids), memory.state_size, device=memory.device)
        steps = {memory.longest, int(memory.windows.length[ids.numpy()].max())}
        self._find_core(pl_module).start(batch, initial, row, position, steps)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write: file the states of the forward pass that trained the batch."""
        states = self._finish_training(pl_module, outputs)
        memory = self._ready()
        if memory.epoch >= self.warmup_epochs:
            if self._shared is not None:
                self._shared.write_rows(self._target, states, self._writers, batch_idx)
            elif states is not None:
                memory.write_rows(self._target, states, self._writers, batch_idx)
            if states is not None:
                memory.trained[self._ids] = True
        self._losses.keep(outputs, self._ids, batch_idx)
        if self.max_refused is not None and (batch_idx + 1) % _LOOK_EVERY == 0:
            self._stop_if_too_many(trainer, pl_module, memory)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Propagate."""
        super().on_train_epoch_end(trainer, pl_module)
        memory = self._ready()
        self._say_what_was_refused(trainer, pl_module, memory)
        if self._shared is not None:
            self._shared.bring_together()
        report = memory.report() if self._shared is None else self._shared.report()
        for watcher in self.watchers:
            report |= watcher.epoch_over(trainer, pl_module, self)
        pl_module.log_dict({f"mptt/{name}": value for name, value in report.items()}, sync_dist=True)
        memory.close_epochs_before(trainer.current_epoch + 1)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Propagate where a checkpoint of the very last batch left nothing to train, and so no epoch to end."""
        self._close_epochs_before(trainer, pl_module)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Leave the module and the DataModule as they were."""
        super().on_exception(trainer, pl_module, exception)
        self._ask_no_more(trainer)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Leave the module and the DataModule as they were."""
        super().teardown(trainer, pl_module, stage)
        self._ask_no_more(trainer)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Put the memory into the checkpoint."""
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        if self._memory is not None:
            checkpoint[_SAVED] = (self._shared or self._memory).state_dict()

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Hold the memory of a checkpoint until the windows and the core are known."""
        super().on_load_checkpoint(trainer, pl_module, checkpoint)
        if trainer.state.fn != "fit":
            return
        self._saved = checkpoint.get(_SAVED)
        if self._saved is None:
            warnings.warn(
                "The checkpoint holds no MPTT memory; training goes on from an empty one.", MPTTWarning, stacklevel=2
            )

    @property
    def layers(self) -> Memory:
        """The messages of all layers side by side, and how fresh they are.

        Raises:
            MPTTError: before the first fit.
        """
        return self._ready()

    def _ready(self) -> Memory:
        if self._memory is None:
            raise MPTTError("MPTTCallback has no memory before the start of fit.")
        return self._memory

    def _ask_for_links(self, trainer: pl.Trainer) -> None:
        """Of a DataModule that makes them where it makes the batches; for any other they are made here."""
        data, keymap = trainer.datamodule, self._ready().keymap  # type: ignore[attr-defined]
        if getattr(data, "keymap", False) is None and getattr(data, "windows", None) is keymap.windows:
            data.keymap = keymap

    def _ask_no_more(self, trainer: pl.Trainer) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]
        if self._memory is not None and getattr(data, "keymap", None) is self._memory.keymap:
            data.keymap = None

    def _storage(self, trainer: pl.Trainer, module: pl.LightningModule) -> Storage:
        if self.device != "disk":
            return Storage(module.device if self.device == "auto" else self.device)
        root = trainer.default_root_dir
        # Of a root in a store, such as s3://, nothing can be mapped.
        return Storage("disk", self.memory_dir or (None if "://" in root else root))

    def _restore(self) -> None:
        saved, self._saved = self._saved, None
        if saved is None:
            return
        with in_our_form("memory of MPTT"):
            saved = saved if self._shared is None else self._shared.of_this_process(saved)
            differs = self._ready().differences(saved) if self.on_mismatch == "reset" else []
            if not differs:
                self._ready().load_state_dict(saved)
                return
        self._guesses = Guesses()
        warnings.warn(
            f"The checkpoint's memory was made for something else: {'; '.join(differs)}. Training goes on from an empty"
            ' one, as on_mismatch="reset" asks.',
            MPTTWarning,
            stacklevel=2,
        )

    def _not_twice(self, memory: Memory, ids: Tensor, links: Links) -> Links:
        """The links of those windows of a batch whose states were not filed in this epoch."""
        again = memory.trained[ids]
        if not again.any():
            return links
        if not self._warned_of_repeats:
            self._warned_of_repeats = True
            warnings.warn(
                f"The checkpoint is from the middle of epoch {memory.epoch}, after {int(memory.trained.sum())} of"
                f" {len(memory.windows)} windows, and the training loader begins that epoch again: it has no"
                " state_dict and load_state_dict. Windows are trained a second time; their states are not filed a"
                " second time. Resume from the end of an epoch, or use a loader with a state, as that of"
                " SeriesDataModule.",
                MPTTWarning,
                stacklevel=2,
            )
        kept = ~again[links[0]]
        row, target, position = (one[kept] for one in links)
        return row, target, position

    def _open_epoch(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._close_epochs_before(trainer, module)
        memory = self._ready()
        if self._link_is_due(memory):
            batches = self.series_batches(trainer)
            link(trainer, module, self._find_core(module), memory, batches, self.parallel, self._guesses)
            if self._shared is not None:
                self._shared.share_links()

    def _close_epochs_before(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Propagate what a checkpoint of an epoch's last batch left."""
        memory = self._ready()
        if memory.epoch < trainer.current_epoch:
            if self._shared is not None:
                self._shared.bring_together()
            for watcher in self.watchers:
                watcher.epoch_over(trainer, module, self)  # too late to be logged
        memory.close_epochs_before(trainer.current_epoch)

    def _link_is_due(self, memory: Memory) -> bool:
        epoch, reads_from = memory.epoch, max(self.zero_init_epochs, self.warmup_epochs, 1)
        if self.warmup_epochs and memory.linked is None and epoch >= self.warmup_epochs:
            return True
        due = self.refresh_every > 0 and epoch >= reads_from and epoch % self.refresh_every == 0
        return due and memory.linked != epoch

    def _say_what_was_refused(self, trainer: pl.Trainer, module: pl.LightningModule, memory: Memory) -> None:
        self._stop_if_too_many(trainer, module, memory)
        said = refused_message(trainer, module, memory.windows, memory.refused, self._losses)
        self._losses.clear()
        if said is not None:
            warnings.warn(said, MPTTWarning, stacklevel=2)

    def _stop_if_too_many(self, trainer: pl.Trainer, module: pl.LightningModule, memory: Memory) -> None:
        if self.max_refused is None:
            return
        # All processes look at once, and stop together.
        total = memory.refused.total if self._shared is None else self._shared.refused()
        if total > self.max_refused:
            said = refused_message(trainer, module, memory.windows, memory.refused, self._losses)
            raise MPTTError(
                f"{total} state(s) were not finite in this training, more than max_refused={self.max_refused}."
                f" {said or 'They are of earlier epochs: allow more, or go back to a checkpoint of before them.'}"
            )

    def series_batches(self, trainer: pl.Trainer) -> Iterable[Any]:
        """Batches over the training series in order.

        Raises:
            MPTTError: nobody gives them.
        """
        if self.series is not None:
            return self.series
        make = getattr(trainer.datamodule, "series_dataloader", None)  # type: ignore[attr-defined]
        if make is None:
            raise MPTTError(
                "MessageQuality and linkage reconstruction (warmup_epochs, refresh_every) walk along the training"
                " series: pass MPTTCallback(series=loader) whose batches have site, start and length, or give the"
                " DataModule a method series_dataloader()."
            )
        return make()
