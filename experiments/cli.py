"""The command line: `mptt fit|validate|test|predict|compare|configs|data|memory`."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import yaml
from jsonargparse import ActionConfigFile, auto_cli  # type: ignore[attr-defined]
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.cli import ArgsType, LightningArgumentParser, LightningCLI

# Imported so that their short class names are known.
import mptt.datamodules
import mptt.experiments.neuroview
import mptt.experiments.regressor  # noqa: F401
from mptt.callbacks import StepLimit, WholeCheckpointIO
from mptt.errors import MPTTError
from mptt.experiments.comparison.compare import compare
from mptt.experiments.comparison.grid import Comparison
from mptt.experiments.configs import config_label, differences, find_config, flat, list_configs, read_config
from mptt.experiments.data.commands import run_data
from mptt.experiments.inferences import INFERENCES, find_inference
from mptt.experiments.records import (
    CONFIG,
    BestAndLast,
    EpochTable,
    PredictionRecord,
    RunLog,
    StateRecord,
    carrying,
    write_versions,
)
from mptt.experiments.strategies import PLAIN, STRATEGIES, find_strategy, settle
from mptt.files import write_atomically

USAGE = """\
mptt: recurrent networks on long climate series, trained with messages through time.

  mptt configs                          the packaged configurations, a line each
  mptt fit      --config NAME_OR_PATH   train, then test the best epoch; into a run directory
  mptt validate --config NAME_OR_PATH   scores of a run's best epoch (or --ckpt_path last, or a file),
  mptt test     --config NAME_OR_PATH     of its test part, with predictions and figures,
  mptt predict  --config NAME_OR_PATH     or its predictions alone
  mptt compare  NAME_OR_PATH            strategies x seeds (x targets x windows) at equal budget: report
  mptt data inspect  PATH               what a data set holds: tables, figure, a configuration to begin with
  mptt data convert  PATH OUT.zarr      the data set as one Zarr store, which is read fast
  mptt data download NAME FOLDER        official archives, checked and unpacked
  mptt memory COMMAND RUN               what a trained network remembers: `mptt memory --help`

Every setting can be given after the configuration: --strategy RMB-SSIF --trainer.max_epochs 20 --model.hidden_size 64.
`mptt test --config RUN/config.yaml --inference IIF` evaluates a run another way, into a folder of its own.
`mptt predict --config RUN/config.yaml --initial_states RUN/states.nc` goes on where the last test or predict ended.
The configuration of a run is RUN/config.yaml: --config RUN/config.yaml --ckpt_path last resumes it.
`mptt fit --help`, `mptt compare --help` list everything.
"""


class NamedConfig(ActionConfigFile):
    """`--config`, for packaged names as well as paths."""

    def __call__(self, parser: Any, cfg: Any, values: Any, option_string: str | None = None) -> None:
        """Take in the file of a name."""
        path = find_config(values)
        read_config(path)
        super().__call__(parser, cfg, str(path), option_string)


class MPTTCLI(LightningCLI):
    """LightningCLI with a strategy and a run directory.

    A run directory holds `config.yaml` (as run), `versions.yaml`, `log.txt`, `metrics.csv`, `checkpoints/best.ckpt` and
    `last.ckpt`, and after the test `predictions.nc`, `scores.csv`, `states.nc` and figures. It can be moved; its
    `config.yaml` stands for it.
    """

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """A parser that knows the packaged configurations."""
        parser = LightningArgumentParser(allow_abbrev=False, **kwargs)
        parser.add_argument("-c", "--config", action=NamedConfig, help="packaged name, or path of a YAML file")
        return parser

    def _add_instantiators(self) -> None:
        """Put into checkpoints no words of how a module is built: `load_from_checkpoint_support=False` of 2.6."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what is ours."""
        parser.add_argument(
            "--strategy",
            type=str | None,
            default="MPTT-delta1",
            help=", ".join(STRATEGIES) + "; module.NAME for one of your own; null: none",
        )
        parser.add_argument(
            "--inference",
            type=str | None,
            default=None,
            help=", ".join(INFERENCES) + "; by default that of the strategy. Another than a run was trained with"
            " writes into a folder of its name in the run's",
        )
        parser.add_argument(
            "--initial_states",
            type=str | None,
            default=None,
            help="for validate, test and predict: go on from the states in this file, such as RUN/states.nc, which test"
            " and predict write; by default series start from zeros",
        )
        parser.add_argument(
            "--missing_states",
            type=Literal["refuse", "zeros"] | None,
            default=None,
            help="sites without a state there: refuse (by default), or zeros",
        )
        parser.add_argument(
            "--run_dir",
            type=str | None,
            default=None,
            help="where the run is kept; by default the folder of a run's own config.yaml, else runs/NAME",
        )
        parser.add_argument("--compare", type=Comparison, default=Comparison(), help="for `mptt compare`")
        for size in ("input_size", "output_size"):
            # 0, which the model refuses, where the DataModule does not say; a model without sizes never sees it.
            parser.link_arguments(
                "data", f"model.init_args.{size}", lambda data, size=size: getattr(data, size, 0), "instantiate"
            )

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse the words given, which are the process's own or those of one run of a comparison."""
        self.config = parser.parse_args(args)  # type: ignore[arg-type]
        seed = self.config[self.config.subcommand].seed_everything
        if not isinstance(seed, bool) and not 0 <= seed < 2**32:
            raise MPTTError(f"seed_everything is a number from 0 to {2**32 - 1}, true or false; found {seed}.")

    def before_instantiate_classes(self) -> None:
        """Find the run directory, and bring in what the strategy needs of the data."""
        config = self.config[self.subcommand]
        self.run_dir = Path(config.run_dir or _run_dir([Path(str(path)) for path in config.config or []]))
        self._choose(config)
        if self.subcommand == "fit":
            self._check_run_dir(config)
        else:
            config.ckpt_path = config.ckpt_path or "best"
        if config.ckpt_path is not None:
            config.ckpt_path = str(self._checkpoint(config.ckpt_path))

    def _choose(self, config: Any) -> None:
        """Settle what strategy and inference need of the data, and make their callbacks."""
        settings = config.data.get("init_args") or {}
        strategy = find_strategy(config.strategy) if config.strategy is not None else None
        self.chosen: list[pl.Callback] = []
        if strategy is not None:
            settle({**PLAIN, **strategy.data}, settings, config.strategy)
            self.chosen += strategy.callbacks()
        name = config.inference or (strategy.inference if strategy is not None else None)
        if name is not None:
            inference = find_inference(name, settings.get("lagged_target", "none"))
            settle(inference.data, settings, name)
            self.chosen += inference.callbacks()
        # Another inference than the run's own leaves the run's own predictions alone.
        self.folder = self.run_dir if name in (None, self._inference_of_run(name)) else self.run_dir / str(name)

    def _inference_of_run(self, name: str | None) -> str | None:
        written = self.run_dir / CONFIG
        if self.subcommand == "fit" or not written.exists():
            return name
        config = read_config(written)
        strategy = config.get("strategy")
        return config.get("inference") or (find_strategy(strategy).inference if strategy else None)

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """Add the callbacks of the strategy and of the run directory."""
        given = self._get(self.config_init, "trainer.callbacks") or []
        callbacks = [
            *(given if isinstance(given, list) else [given]),
            *self.chosen,
        ]
        self._take_up_states(callbacks)
        self.recorded = not self._get(self.config_init, "trainer.fast_dev_run")
        if self.recorded:
            callbacks += [
                EpochTable(self.run_dir),
                PredictionRecord(self.folder),
                StateRecord(self.folder),
                RunLog(self.run_dir),
                BestAndLast(self.run_dir),
            ]
        steps = self._get(self.config_init, "trainer.max_steps") or -1
        if steps > 0:
            # Lightning's own limit leaves the last part of an epoch without validation.
            callbacks.append(StepLimit(steps))
            kwargs["max_steps"] = -1
        trainer = super().instantiate_trainer(callbacks=callbacks, default_root_dir=self.run_dir, **kwargs)
        # Sharded strategies, and who brings an IO of their own, write otherwise.
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = WholeCheckpointIO(self.model)
        return trainer

    def _parse_ckpt_path(self) -> None:
        """What is built says the configuration; Lightning would let the checkpoint change it, and name classes."""

    def _take_up_states(self, callbacks: Sequence[Any]) -> None:
        config = self.config[self.subcommand]
        if config.initial_states is None:
            if config.missing_states is not None:
                raise MPTTError("--missing_states says what to do where --initial_states lacks a site; give both.")
            return
        evaluating = carrying(callbacks)
        if evaluating is None:
            raise MPTTError(
                "--initial_states needs an inference that carries states, SSIF or TFIF, found"
                f" {config.inference or config.strategy}."
            )
        evaluating.initial_states = config.initial_states
        evaluating.missing_states = config.missing_states or "refuse"

    def before_fit(self) -> None:
        """Note what a repetition needs."""
        if not self.recorded or not self.trainer.is_global_zero:
            return
        config = self.config["fit"]
        write_atomically(self.run_dir / CONFIG, self._as_written(config))
        write_versions(self.run_dir, config.seed_everything)

    def after_fit(self) -> None:
        """Test the best epoch."""
        if self.recorded and self.trainer.state.status == "finished":
            best, shown = str(self._checkpoint("best")), self.trainer.progress_bar_callback is not None
            self.trainer.test(self.model, datamodule=self.datamodule, ckpt_path=best, verbose=shown)

    def _checkpoint(self, name: str) -> Path:
        path = self.run_dir / "checkpoints" / f"{name}.ckpt" if name in ("best", "last") else Path(name)
        if not path.is_file():
            raise MPTTError(
                f"There is no checkpoint {path}; --ckpt_path is best, last or a file, and the run directory is"
                f" {self.run_dir} (--config RUN/{CONFIG} or --run_dir choose another)."
            )
        return path

    def _as_written(self, config: Any) -> str:
        config = config.clone()
        # The file stands for its folder, and begins from the start: both may change after it is written.
        config.run_dir = config.ckpt_path = None
        return str(self._parser("fit").dump(config, skip_none=False))

    def _check_run_dir(self, config: Any) -> None:
        """Refuse to train over a run, and to resume one as another."""
        written = self.run_dir / CONFIG
        differs = ""
        if written.exists():
            there, here = (
                # A run may be resumed to be longer, on another device, or without its progress bar.
                flat(settings, without=("trainer", "compare"))
                for settings in (read_config(written), yaml.safe_load(self._as_written(config)))
            )
            differs = differences(there, here)
        checkpoints = self.run_dir / "checkpoints"
        # A kill before the first checkpoint leaves nothing to resume; one right after the first leaves the best alone.
        kept = [name for name in ("last", "best") if (checkpoints / f"{name}.ckpt").exists()]
        if config.ckpt_path is None and kept:
            of = f" of another configuration: {differs}" if differs else ""
            raise MPTTError(
                f"{self.run_dir} holds a run already{of}. Resume it with `mptt fit --config {written} --ckpt_path"
                f" {kept[0]}`, choose another --run_dir, or remove it."
            )
        if config.ckpt_path is not None and differs:
            raise MPTTError(
                f"{self.run_dir} holds a run of another configuration: {differs}. Choose another --run_dir to go on"
                " from its checkpoint with these settings, or resume it as it is."
            )


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line.

    Args:
        args: words after `mptt`; by default those of the process.

    Raises:
        SystemExit: with a line that says what went wrong, or the exit code 2 for options that cannot be parsed.
    """
    words = list(sys.argv[1:] if args is None else args)
    # A module beside the configuration is found, as `python -m` finds it.
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    command = words[0] if words else "--help"
    try:
        if command == "configs":
            print(list_configs())
        elif command == "compare":
            options, settings = split_settings(words[1:])
            auto_cli(compare, args=options, prog="mptt compare", set_defaults={"settings": settings})
        elif command == "data":
            run_data(words[1:])
        elif command == "memory":
            from mptt.experiments.memory.commands import run_memory  # which opens runs by means of this module

            run_memory(words[1:])
        elif command in MPTTCLI.subcommands():
            run(words)
        elif command in ("-h", "--help"):
            print(USAGE)
        else:
            print(USAGE, file=sys.stderr)
            raise MPTTError(f"There is no command {command!r}.")
    except (ValueError, MisconfigurationException) as error:
        said = _ours(error)
        if said is None:
            raise
        raise SystemExit(f"mptt: {said}") from error
    except KeyboardInterrupt as error:
        print("mptt: interrupted; what is finished is kept.", file=sys.stderr)
        raise SystemExit(130) from error


def _ours(error: BaseException | None) -> BaseException | None:
    """The message meant for people: jsonargparse wraps what a constructor raises in one about types."""
    while error is not None and not isinstance(error, MPTTError | MisconfigurationException):
        error = error.__cause__ or error.__context__
    return error


def run(words: Sequence[str], cli: type[MPTTCLI] = MPTTCLI) -> MPTTCLI:
    """Run `fit`, `validate`, `test` or `predict`, with a command line of another kind where one is given."""
    # Lightning's own use of torch's pytrees; nothing that a user can act on.
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    return cli(
        pl.LightningModule,
        pl.LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        seed_everything_default=0,
        trainer_defaults={"logger": False, "max_epochs": 100, "num_sanity_val_steps": 0, "enable_model_summary": False},
        save_config_callback=None,
        auto_configure_optimizers=False,
        args=list(words),
    )


def split_settings(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The options of `mptt compare` itself, and the settings of its runs that stand between them."""
    options: list[str] = []
    settings: list[str] = []
    target = options
    for word in words:
        if word.startswith("-"):
            target = settings if word.startswith(("--data", "--model", "--trainer")) else options
        target.append(word)
    return options, settings


def _run_dir(configs: Sequence[Path]) -> Path:
    runs = [path.parent for path in configs if path.name == CONFIG and (path.parent / "versions.yaml").exists()]
    return runs[-1] if runs else Path("runs", config_label(configs[-1]) if configs else "run")
