"""Several processes on this machine: what each holds of the memory, what passes between them, and how long a step is.

`python -m mptt.experiments.bench.processes WAY PROCESSES SITES UNITS OUT`; Lightning starts the others by that line.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist

from mptt.callbacks import MPTTCallback
from mptt.datamodules import SeriesDataModule
from mptt.errors import MPTTError
from mptt.experiments.bench.common import Figure, Settings, bare_trainer, days, quiet, random_dataset
from mptt.experiments.regressor import SequenceRegressor
from mptt.freememory import GIB

WINDOW, STRIDE, PER_SITE, BATCH, STEPS = 8, 4, 39, 64, 60
SITES, UNITS = 20_000, 64
WAYS = [("zero state", 1), ("MPTT", 1), ("zero state", 2), ("step", 2), ("epoch", 2), ("none", 2)]
MANY, MANY_SITES = 8, (10_000, 100_000, 1_000_000, 6_000_000)


def processes(settings: Settings) -> list[Figure]:
    """Steps and traffic of two processes against one, over gloo; and what more sites would need, computed from them.

    A GRU of 64 units, windows of 8 steps, one each 4, 39 a site, batches of 64 in each process.
    """
    sites = settings.size(SITES, 200)
    found: dict[tuple[str, int], list[dict[str, Any]]] = {way: [] for way in WAYS}
    for nth in range(settings.at_most(3)):
        for way, count in WAYS if nth % 2 else reversed(WAYS):
            settings.tell(f"{count} process(es), {way}, round {nth + 1}")
            found[way, count].append(_in_processes(way, count, sites))
    alone = [one["milliseconds"] for one in found["zero state", 1]]
    figures = []
    for (way, count), each in found.items():
        name = f"{count} process(es), {way}"
        ratios = [one["milliseconds"] / other for one, other in zip(each, alone, strict=True)]
        figures.append(Figure(f"step: {name} / 1 process, zero state", ratios, "x"))
        if way == "zero state":
            continue
        figures.append(Figure(f"rows in a process: {name}", [one["rows"] / 2**20 for one in each], "MiB"))
        for when in ("step", "epoch's end", "checkpoint"):
            for direction in ("sent", "received"):
                values = [one[when][direction] / 1024 for one in each] if count > 1 else [0.0]
                if any(values):
                    figures.append(Figure(f"{direction} at a {when}: {name}", values, "KiB"))
    return figures + _more_sites({way: each[0] for (way, count), each in found.items() if count > 1}, sites)


def _more_sites(measured: dict[str, dict[str, Any]], sites: int) -> list[Figure]:
    """What was measured of two processes, by window, of 8 processes: rows and traffic go with the windows."""
    figures = []
    for count in MANY_SITES:
        for way in ("step", "epoch", "none"):
            one, factor = measured[way], count / sites
            rows = one["rows"] * factor * (2 / MANY if way == "none" else 1)
            figures.append(Figure(f"computed: {count:,} sites in {MANY} processes, {way}: rows", [rows / GIB], "GiB"))
            # Each gets what the others wrote, or as much as its tables; whole sites need nothing of one another.
            steps = PER_SITE * count / BATCH / MANY
            by_step, by_epoch = one["step"]["received"] * (MANY - 1) * steps, one["epoch's end"]["sent"] * factor
            epoch = {"step": by_step, "epoch": by_epoch, "none": 0.0}[way]
            what = f"computed: {count:,} sites in {MANY} processes, {way}: received in an epoch"
            figures.append(Figure(what, [epoch / GIB], "GiB"))
    return figures


def _in_processes(way: str, count: int, sites: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        words = [way, str(count), str(sites), str(UNITS), str(out)]
        done = subprocess.run([sys.executable, "-m", __name__, *words], capture_output=True, text=True, check=False)
        if not out.exists():
            raise MPTTError(f"The processes of {way} did not come to their end:\n{done.stderr[-2000:]}")
        measured: dict[str, Any] = json.loads(out.read_text())
    return measured


class Traffic:
    """Bytes of the tensors that this process gives to the collectives of torch, and gets from others by them."""

    def __init__(self) -> None:
        self.sent = self.received = 0
        for name in ("all_gather", "all_reduce", "gather"):
            setattr(dist, name, self._counting(getattr(dist, name), name))

    def take(self) -> dict[str, int]:
        """What passed since the last time."""
        found = {"sent": self.sent, "received": self.received}
        self.sent = self.received = 0
        return found

    def _counting(self, call: Callable[..., Any], name: str) -> Callable[..., Any]:
        def counted(*arguments: Any, **settings: Any) -> Any:
            own = arguments[1] if name == "all_gather" else arguments[0]
            size, others = own.numel() * own.element_size(), dist.get_world_size() - 1
            gets = name != "gather" or dist.get_rank() == 0
            self.sent += size
            self.received += size * others if gets else 0
            return call(*arguments, **settings)

        return counted


class Watch(pl.Callback):
    """Seconds between the ends of steps, and the traffic of steps and of the epoch's end."""

    def __init__(self, traffic: Traffic) -> None:
        self.traffic = traffic
        self.ends: list[float] = []
        self.passed: list[dict[str, int]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """A step is over."""
        self.ends.append(time.perf_counter())
        self.passed.append(self.traffic.take())

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """The epoch is."""
        self.at_end = self.traffic.take()


def measure(way: str, count: int, sites: int, units: int, out: Path) -> None:
    """One epoch of some steps; process 0 writes what it found."""
    length = WINDOW + (PER_SITE - 1) * STRIDE
    share = WINDOW / (length + 2 * WINDOW)
    data = SeriesDataModule(
        random_dataset(sites, 1, days(length + 2 * WINDOW)), inputs=["x0"], targets=["y"], window=WINDOW,
        stride=STRIDE, split=(1 - 2 * share, share, share), batch_size=BATCH, seed=0,
        shard="site" if way == "none" else "window",
    )  # fmt: skip
    sync: Any = way if way in ("step", "epoch", "none") else None
    callback = None if way == "zero state" else MPTTCallback(zero_init_epochs=0, sync=sync)
    traffic = Traffic()
    watch = Watch(traffic)
    many = {"strategy": "ddp", "devices": count} if count > 1 else {}
    callbacks = [watch] if callback is None else [callback, watch]
    trainer = bare_trainer(*callbacks, epochs=1, limit_train_batches=STEPS, **many)
    trainer.fit(SequenceRegressor(1, hidden_size=units), datamodule=data)
    traffic.take()
    trainer.save_checkpoint(out.with_suffix(".ckpt"))
    saved = traffic.take()
    seconds = [after - before for before, after in zip(watch.ends, watch.ends[1:], strict=False)]
    found: dict[str, Any] = {"milliseconds": 1000 * statistics.median(seconds), "checkpoint": saved}
    passed = watch.passed[STEPS // 4 :]
    found["rows"] = 0 if callback is None else sum(one.nbytes for one in callback._ready().maps.values())
    found["step"] = {name: statistics.fmean(one[name] for one in passed) for name in ("sent", "received")}
    found["epoch's end"] = watch.at_end
    if trainer.is_global_zero:
        out.write_text(json.dumps(found))


if __name__ == "__main__":
    torch.set_num_threads(1)
    with quiet():
        measure(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]))
