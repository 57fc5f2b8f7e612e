"""A run of the command line, opened again: its trained network and its data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mptt.callbacks.base import RecurrentCallback
from mptt.callbacks.checkpoints import in_our_form, read_checkpoint
from mptt.datamodules import SeriesDataModule
from mptt.errors import MPTTError
from mptt.experiments.cli import MPTTCLI, run
from mptt.experiments.memory.network import Network
from mptt.experiments.records import CONFIG


@dataclass(frozen=True)
class OpenedRun:
    """A trained network and its data.

    Attributes:
        name: of the run, for titles.
        folder: of the run.
        checkpoint: what Lightning saved: `state_dict`, `epoch`, the callbacks' states and all.
        strategy: that it was trained with; None for one without.
        data: its DataModule, set up, with the scalers of the checkpoint; evaluation goes through whole series in order.
        network: its module with the weights of the checkpoint.
        training: the callback that set the initial states in training, as configured; None where there was none.
    """

    name: str
    folder: Path
    checkpoint: dict[str, Any]
    strategy: str | None
    data: SeriesDataModule
    network: Network
    training: RecurrentCallback | None


class _Opening(MPTTCLI):
    """Builds all that `mptt test` would, and runs nothing."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Leave it at that."""


def open_run(run_or_config: str | Path, checkpoint: str = "best", settings: Sequence[str] = ()) -> OpenedRun:
    """Open a run.

    Args:
        run_or_config: the folder of a run, its config.yaml, or a configuration, whose run is then runs/NAME.
        checkpoint: "best", "last", or the path of a file.
        settings: more words of the command line, such as `--data.root` where the data were moved.

    Raises:
        MPTTError: it was not trained yet; the checkpoint cannot be read; the data are not what it was trained on.
        SystemExit: settings that cannot be parsed.
    """
    path = Path(run_or_config)
    config = path / CONFIG if path.is_dir() else path
    if path.is_dir() and not config.is_file():
        raise MPTTError(
            f"{path} is no run: it holds no {CONFIG}. Give the folder that `mptt fit` wrote, or a configuration."
        )
    words = ["test", "--config", str(config), "--ckpt_path", checkpoint, "--seed_everything", "false"]
    words += ["--trainer.accelerator", "cpu", *settings]
    cli: Any = run(words, _Opening)
    if not isinstance(cli.datamodule, SeriesDataModule):
        raise MPTTError(
            f"`mptt memory` reads the series of a SeriesDataModule, found {type(cli.datamodule).__name__}; use the"
            " functions of mptt.analysis with data of another kind."
        )
    saved = read_checkpoint(cli.config.test.ckpt_path)
    module, data = cli.model, cli.datamodule
    data.evaluation = "sequential"
    data.prepare_data()
    data.setup("test")
    with in_our_form("network"):
        module.on_load_checkpoint(saved)
        module.load_state_dict(saved["state_dict"])
    if (scalers := saved.get(type(data).__qualname__)) is not None:
        data.load_state_dict(scalers)
    module.trainer = cli.trainer
    callbacks = [one for one in cli.trainer.callbacks if isinstance(one, RecurrentCallback)]
    training = next((one for one in callbacks if one.trains), None)
    named = training or next(iter(callbacks), None)
    network = Network(module, *((named.rnn, named.state_size) if named is not None else ()))
    folder = cli.run_dir
    return OpenedRun(folder.resolve().name, folder, saved, cli.config.test.strategy, data, network, training)
