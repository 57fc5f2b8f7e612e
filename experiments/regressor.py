"""The LightningModule of the experiments: a recurrent core and a linear head."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection

from mptt.closedloop import Step, cell
from mptt.errors import MPTTError
from mptt.fastgru import FastGRU
from mptt.metrics import KGE, NSE, PBIAS, RMSE

CORES = {"gru": nn.GRU, "fast_gru": FastGRU, "lstm": nn.LSTM, "rnn": nn.RNN}
OptimizerMaker = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
SchedulerMaker = Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler]


class SequenceRegressor(pl.LightningModule):
    """Predicts the targets at every step from the inputs up to it. It knows nothing of messages or memories.

    Trained on the mean squared error of standardised targets where they are observed. Validation logs `val_loss` (the
    same error over the whole part) and the median over sites of `val_rmse`, `val_nse`, `val_kge`, `val_pbias`, in the
    units of the data; test keeps the scores of each site in `test_scores`.

    A batch is a dict with `x` (B, L, F), `y` (B, L, K) and `mask` (B, L, K), as of SeriesDataModule; in validation and
    test also `site` (B,). Those ask the DataModule for `sites` and `target_scaler`, whose
    `inverse(values, site)` gives physical values.

    Args:
        input_size: inputs, F; from the DataModule on the command line.
        output_size: targets, K; likewise.
        core: "gru", "fast_gru" (the same, faster on the CPU, with numba), "lstm" or "rnn".
        hidden_size: units in a layer.
        num_layers: layers.
        dropout: between layers and before the head.
        optimizer: makes the optimizer from the parameters; Adam with learning rate 0.01 as in arXiv 2309.16882.
        scheduler: makes a learning-rate scheduler from the optimizer, stepped once an epoch (ReduceLROnPlateau by
            `val_loss`); none by default.

    Raises:
        MPTTError: an unknown core, "fast_gru" without numba, sizes under 1; at the start of validation or test, a
            DataModule that cannot say what the sites and the units are.

    Example:
        >>> model = SequenceRegressor(input_size=7)
        >>> model(torch.zeros(4, 366, 7)).shape
        torch.Size([4, 366, 1])

        In a script, with any optimizer:

        >>> model = SequenceRegressor(7, core="lstm", optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1))
        >>> trainer = pl.Trainer(max_epochs=5, logger=False, enable_checkpointing=False)  # callbacks=[MPTTCallback()]

        followed by `trainer.fit(model, datamodule=data)`. On the command line, `--model.optimizer SGD
        --model.optimizer.lr 0.1`; in a configuration::

            model:
              class_path: SequenceRegressor
              init_args:
                optimizer: {class_path: torch.optim.SGD, init_args: {lr: 0.1}}
                scheduler: {class_path: torch.optim.lr_scheduler.StepLR, init_args: {step_size: 20, gamma: 0.5}}
    """

    def __init__(
        self,
        input_size: int,
        output_size: int = 1,
        core: Literal["gru", "fast_gru", "lstm", "rnn"] = "gru",
        hidden_size: int = 32,
        num_layers: int = 1,
        dropout: float = 0.0,
        optimizer: OptimizerMaker = lambda parameters: torch.optim.Adam(parameters, lr=0.01),
        scheduler: SchedulerMaker | None = None,
    ) -> None:
        super().__init__()
        if core not in CORES:
            raise MPTTError(f"There is no core {core!r}; cores are {', '.join(CORES)}.")
        if input_size < 1 or output_size < 1:
            raise MPTTError(
                f"input_size and output_size are 1 or more, found {input_size} and {output_size}; on the command line"
                " they are attributes of the DataModule."
            )
        between = dropout if num_layers > 1 else 0.0
        self.core = CORES[core](input_size, hidden_size, num_layers, batch_first=True, dropout=between)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden_size, output_size)
        self.output_size = output_size
        self._make_optimizer = optimizer
        self._make_scheduler = scheduler
        self.test_scores: dict[str, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        """Predictions (B, L, K), standardised, for inputs (B, L, F)."""
        states, _ = self.core(x)
        return self.head(self.dropout(states))

    def stepper(self) -> Step:
        """One step as a function, for closed-loop inference, without dropout.

        From inputs (B, F) and flat state (B, S) to predictions (B, K), standardised, and flat state.
        """
        core, weight, bias = cell(self.core), self.head.weight, self.head.bias

        def step(x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
            output, state = core(x, state)
            return nn.functional.linear(output, weight, bias), state

        return step

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """The masked mean squared error of a batch of windows, as "loss", and its predictions (B, L, K)."""
        prediction = self(batch["x"])
        squared = (prediction - batch["y"]).square() * batch["mask"]
        loss = squared.sum() / batch["mask"].sum().clamp(min=1)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(squared), sync_dist=True)
        return {"loss": loss, "prediction": prediction.detach()}

    def on_validation_epoch_start(self) -> None:
        """Begin the sums afresh."""
        self._begin_sums()

    def on_test_epoch_start(self) -> None:
        """Begin the sums afresh."""
        self._begin_sums()

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Add a batch to the sums, and give its predictions (B, L, K), standardised."""
        return {"prediction": self._evaluate(batch)}

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Add a batch to the sums, and give its predictions (B, L, K), standardised."""
        return {"prediction": self._evaluate(batch)}

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Predictions (B, L, K), standardised."""
        return self.predict_batch(batch)

    def predict_batch(self, batch: dict[str, Tensor]) -> Tensor:
        """Predictions (B, L, K), standardised, of a batch of evaluation; for models that read more of it than `x`."""
        return self(batch["x"])

    def on_validation_epoch_end(self) -> None:
        """Log the scores."""
        scores = self._metrics.compute()
        # Of all processes, of which each has sites of its own.
        squared, observed = (
            self.trainer.strategy.reduce(one, reduce_op="sum") for one in (self._squared, self._observed)
        )
        self.log("val_loss", squared / observed, prog_bar=True, sync_dist=True)
        self.log_dict({f"val_{name}": values.nanmedian() for name, values in scores.items()}, sync_dist=True)

    def on_test_epoch_end(self) -> None:
        """Keep the scores of each site, log their medians."""
        scores = self._metrics.compute()
        self.test_scores = {name: self._by_target(values).cpu() for name, values in scores.items()}
        self.log_dict({f"test_{name}": values.nanmedian() for name, values in scores.items()}, sync_dist=True)

    def configure_optimizers(self) -> Any:
        """The optimizer, and the scheduler if there is one."""
        optimizer = self._make_optimizer(self.parameters())
        if self._make_scheduler is None:
            return optimizer
        scheduler = {"scheduler": self._make_scheduler(optimizer), "monitor": "val_loss"}
        return {"optimizer": optimizer, "lr_scheduler": scheduler}

    def _evaluate(self, batch: dict[str, Tensor]) -> Tensor:
        prediction = self.predict_batch(batch)
        self._squared += ((prediction - batch["y"]).square() * batch["mask"]).sum()
        self._observed += batch["mask"].sum()
        scaler, site = self._data().target_scaler, batch["site"]
        rows = len(prediction) * self.output_size
        # Each target of each site is a series of its own: (B, L, K) to (B K, L).
        simulated, observed, mask = (
            values.transpose(1, 2).reshape(rows, -1)
            for values in (scaler.inverse(prediction.float(), site), scaler.inverse(batch["y"], site), batch["mask"])
        )
        series = batch["site"].unsqueeze(1) * self.output_size + torch.arange(self.output_size).to(batch["site"].device)
        self._metrics.update(simulated, observed, site=series.flatten(), mask=mask)
        return prediction.detach()

    def _begin_sums(self) -> None:
        series = len(self._data().sites) * self.output_size
        metrics: dict[str, Metric | MetricCollection] = {
            "rmse": RMSE(series),
            "nse": NSE(series),
            "kge": KGE(series),
            "pbias": PBIAS(series),
        }
        self._metrics = MetricCollection(metrics).to(self.device)
        self._squared = torch.zeros((), device=self.device)
        self._observed = torch.zeros((), device=self.device)

    def _by_target(self, values: Tensor) -> Tensor:
        return values.reshape(-1, self.output_size).T  # (K, sites)

    def _data(self) -> Any:
        data = getattr(self.trainer, "datamodule", None)
        if lacking := [name for name in ("sites", "target_scaler") if not hasattr(data, name)]:
            found = "no DataModule" if data is None else f"{type(data).__name__} without {' and '.join(lacking)}"
            raise MPTTError(
                "SequenceRegressor scores each site in the units of the data, for which it asks the DataModule for"
                f" sites and target_scaler; found {found}. Use SeriesDataModule or a subclass of it, add the"
                " attributes, or train a LightningModule of your own."
            )
        return data
