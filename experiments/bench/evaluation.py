"""Stateful evaluation of long series: as it is done, against one plain pass of nn.GRU."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from mptt.callbacks import MPTTCallback
from mptt.datamodules import SimulatedBasin
from mptt.experiments.bench.common import Figure, Settings, bare_trainer, interleaved, ratio, seconds_of
from mptt.experiments.regressor import SequenceRegressor
from mptt.inference import Inferred, infer

TARGETS = ("SW_ENDmm", "SNOmm", "Q_pred_mm")
STEPS = (36_500, 146_000)
SITES = (1, 10, 100)
AS_DONE = "evaluation"


@dataclass(frozen=True)
class Trained:
    """A network that was trained with MPTT, and inputs that it has not seen.

    Attributes:
        core: its recurrent layer.
        head: what makes predictions of its states.
        x: (1, T, F) of the test part.
    """

    core: nn.GRU
    head: nn.Module
    x: Tensor


@torch.no_grad()
def evaluation(settings: Settings) -> list[Figure]:
    """Time against that of a plain pass, and the largest difference of predictions, standardised.

    Of single series for each target of the simulated basin, in all ways that there are: through compiled loops, and by
    sweeps over chunks with nn.GRU's own code, as without numba. Of many series for soil water, as it is done.
    """
    figures = []
    for target in settings.size(TARGETS, TARGETS[:1]):
        settings.tell(f"training for {target}")
        trained = train(settings, target)
        for steps in settings.size(STEPS, STEPS[:1]):
            figures += one_series(settings, trained, target, steps)
        if target == TARGETS[0]:
            for steps in settings.size(STEPS, STEPS[:1]):
                for sites in settings.size(SITES[1:], SITES[1:2]):
                    figures += many_series(settings, trained, sites, steps)
    return figures


def train(settings: Settings, target: str) -> Trained:
    """Train for a while with MPTT on a hundred years."""
    years, epochs = settings.size((540, 25), (270, 5))
    split = settings.size((0.2, 0.05, 0.75), (0.4, 0.1, 0.5))
    data = SimulatedBasin(years=years, targets=[target], split=split, batch_size=16, cache=None)
    data.setup()
    with torch.inference_mode(False), torch.enable_grad():
        pl.seed_everything(0, verbose=False)
        model = SequenceRegressor(data.input_size)
        bare_trainer(MPTTCallback(), epochs=epochs).fit(model, datamodule=data)
    x = torch.cat([batch["x"] for batch in data.test_dataloader()], dim=1)
    assert isinstance(model.core, nn.GRU)
    return Trained(model.core.eval(), model.head.eval(), x)


def one_series(settings: Settings, trained: Trained, target: str, steps: int) -> list[Figure]:
    """One series, in each of the ways."""
    x, core = trained.x[:, :steps], trained.core
    ways: dict[str, Callable[[], Inferred]] = {
        AS_DONE: partial(infer, core, x),
        "sweeps alone": partial(infer, core, x, forward=core.forward),
    }
    return _compared(settings, trained, f"{target}, 1 site, {steps:,} steps", x, ways, settings.at_most(7), 0.2)


def many_series(settings: Settings, trained: Trained, sites: int, steps: int) -> list[Figure]:
    """Many series side by side, each the first one begun elsewhere."""
    x = torch.cat([trained.x[:, :steps].roll(steps * site // sites, dims=1) for site in range(sites)])
    ways = {AS_DONE: partial(infer, trained.core, x)}
    return _compared(
        settings, trained, f"{TARGETS[0]}, {sites} sites, {steps:,} steps", x, ways, settings.at_most(3), None
    )


def _compared(
    settings: Settings,
    trained: Trained,
    what: str,
    x: Tensor,
    ways: Mapping[str, Callable[[], Inferred]],
    repeats: int,
    target: float | None,
) -> list[Figure]:
    clocks = {name: partial(seconds_of, way) for name, way in ways.items()}
    times = interleaved(settings, repeats, {"plain": partial(seconds_of, partial(trained.core, x)), **clocks})
    expected = trained.head(trained.core(x)[0])
    figures = []
    for name, way in ways.items():
        inferred = way()
        figures.append(
            ratio(f"{what}: {name} / nn.GRU", times[name], times["plain"], target if name == AS_DONE else None)
        )
        if inferred.done.passes != 1:
            figures.append(Figure(f"{what}: {name}, passes over the series", [inferred.done.passes], ""))
        difference = float((trained.head(inferred.output) - expected).abs().max())
        figures.append(Figure(f"{what}: {name}, largest difference", [difference], "", 1e-4))
    return figures
