"""Training from initial states that are neither zeros nor carried: learned ones, noisy ones."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from mptt.callbacks.base import Evaluation, RecurrentCallback, window_ids
from mptt.callbacks.epochs import epoch_generator, go_on
from mptt.errors import MPTTError

_SAVED = "mptt_noise"
_NONE = torch.empty(0, dtype=torch.int64)


class InitialStateCallback(RecurrentCallback):
    """Starts every training window from a state that no other window decides; the base of those that say which.

    Training batches have `window` (B,), as for `MPTTCallback`. Evaluation: as in `RecurrentCallback`.
    """

    trains = True

    @abstractmethod
    def initial(self, trainer: pl.Trainer, module: pl.LightningModule, count: int, size: int, batch_idx: int) -> Tensor:
        """The initial states (count, size) of a training batch."""

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Set the initial states."""
        core = self._find_core(pl_module)
        count = len(window_ids(batch, type(self).__name__))
        initial = self.initial(trainer, pl_module, count, sum(core.sizes.values()), batch_idx)
        core.start(batch, initial, _NONE, _NONE, None)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Leave the module as it was."""
        self._finish_training(pl_module, outputs)


class LearnedInitialStateCallback(InitialStateCallback):
    """Starts every window from one learned state in place of zeros.

    The state is a parameter of the module, `initial_state` (S,), zeros at first, trained with the others: the callback
    adds it before the optimizer is made, and before a checkpoint is loaded. In evaluation, series (or windows, where
    they are evaluated on their own) start from it too, by whatever callback evaluates. Without this callback a
    checkpoint of such a run has one parameter too many for the module.

    Source: Mohajerin and Waslander 2017, doi:10.1109/IJCNN.2017.7966138, compare it with zeros and other ways.

    Args:
        rnn, state_size, evaluation: as of `MPTTCallback`.

    Example:
        >>> trainer = pl.Trainer(callbacks=[LearnedInitialStateCallback()], logger=False)
    """

    def __init__(
        self,
        rnn: str | Sequence[str] | None = None,
        state_size: int | None = None,
        evaluation: Evaluation = "stateful",
    ) -> None:
        super().__init__(rnn, state_size, None, evaluation)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Add the parameter."""
        super().setup(trainer, pl_module, stage)
        size = sum(self._find_core(pl_module).sizes.values())
        found = getattr(pl_module, "initial_state", None)
        if found is None:
            pl_module.register_parameter("initial_state", nn.Parameter(torch.zeros(size, device=pl_module.device)))
        elif not isinstance(found, nn.Parameter) or found.shape != (size,):
            raise MPTTError(
                f"LearnedInitialStateCallback keeps its state in {type(pl_module).__name__}.initial_state, a parameter"
                f" ({size},), but there is something else of that name; rename it."
            )

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """See that an optimizer trains it."""
        super().on_train_start(trainer, pl_module)
        trained = [
            one for optimizer in trainer.optimizers for group in optimizer.param_groups for one in group["params"]
        ]
        if not any(one is pl_module.initial_state for one in trained):
            raise MPTTError(
                "No optimizer trains the parameter initial_state: make it in configure_optimizers from"
                " self.parameters()."
            )

    def initial(self, trainer: pl.Trainer, module: pl.LightningModule, count: int, size: int, batch_idx: int) -> Tensor:
        """The learned state in every row."""
        state: Tensor = module.initial_state  # type: ignore[assignment]
        return state.expand(count, size)


class NoisyInitialStateCallback(InitialStateCallback):
    """Starts every window from zeros plus Gaussian noise, drawn anew each time; evaluation starts from zeros.

    Source: Zimmermann, Tietz and Grothmann 2012, doi:10.1007/978-3-642-35289-8_37.

    Args:
        deviation: standard deviation of the noise; states of a GRU are between -1 and 1.
        seed: of the noise; None: the one that seed_everything set. A resumed run draws what it would have.
        rnn, state_size, evaluation: as of `MPTTCallback`.

    Raises:
        MPTTError: a negative deviation.

    Example:
        >>> trainer = pl.Trainer(callbacks=[NoisyInitialStateCallback(deviation=0.1)], logger=False)
    """

    def __init__(
        self,
        deviation: float = 0.1,
        seed: int | None = None,
        rnn: str | Sequence[str] | None = None,
        state_size: int | None = None,
        evaluation: Evaluation = "stateful",
    ) -> None:
        super().__init__(rnn, state_size, None, evaluation)
        if not deviation >= 0:
            raise MPTTError(f"deviation must be 0 or more, found {deviation}.")
        self.deviation = deviation
        self.seed = seed
        self._generator = torch.Generator()
        self._saved: Tensor | None = None  # state of the generator, of a checkpoint

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Put in where the noise is."""
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        checkpoint[_SAVED] = self._generator.get_state()

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Hold it until the first batch."""
        super().on_load_checkpoint(trainer, pl_module, checkpoint)
        self._saved = checkpoint.get(_SAVED) if trainer.state.fn == "fit" else None

    def initial(self, trainer: pl.Trainer, module: pl.LightningModule, count: int, size: int, batch_idx: int) -> Tensor:
        """Noise."""
        if batch_idx == 0 or self._saved is not None:
            self._generator = epoch_generator(self.seed, trainer.current_epoch, module.device)
            go_on(self._generator, self._saved if batch_idx else None)
            self._saved = None
        noise = torch.randn(count, size, generator=self._generator, device=self._generator.device)
        return noise * self.deviation
