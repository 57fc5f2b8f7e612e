"""Closed-loop inference (TFIF) of long series."""

from __future__ import annotations

from mptt.callbacks import ClosedLoopCallback
from mptt.datamodules import SeriesDataModule
from mptt.experiments.bench.common import Figure, Settings, bare_trainer, days, random_dataset, repeated
from mptt.experiments.regressor import SequenceRegressor

AT_MOST = {1: 15.0, 64: 15.0 * 1.2}  # seconds by number of sites


def closed_loop(settings: Settings) -> list[Figure]:
    """Seconds of predict in a Trainer: 7 inputs and the lagged target, GRU of 32 units."""
    steps = settings.size(146_000, 14_600)
    figures = []
    for sites, target in AT_MOST.items():
        settings.tell(f"{sites} site(s)")
        dataset = random_dataset(sites, 7, days(steps * 5 // 4))
        names = [str(name) for name in dataset.data_vars if name != "y"]
        data = SeriesDataModule(
            dataset, inputs=names, targets=["y"], lagged_target="step", split=(0.1, 0.1, 0.8), window=366, stride=183
        )
        data.setup()
        trainer = bare_trainer(ClosedLoopCallback(), epochs=1)
        model = SequenceRegressor(data.input_size)
        seconds = repeated(settings.at_most(3), lambda: trainer.predict(model, datamodule=data))  # noqa: B023
        figures.append(Figure(f"closed loop of {steps:,} steps, {sites} site(s)", seconds, "s", target))
    return figures
