"""Several processes (DDP, gloo): their memories, what evaluation finds, and checkpoints, against one process."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import manyprocesses as many
import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from filelock import FileLock
from handmade import EXACT_LIGHTNING, TABLE, Regressor, in_order, loader, quiet_trainer, seeded, shuffles, stretches
from pytorch_lightning.trainer.states import RunningStage
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler

from mptt import KeyMap, MPTTError
from mptt.callbacks import MessageQuality, MPTTCallback, StatefulCallback
from mptt.callbacks.memory import Memory
from mptt.callbacks.processes import check_series_are_whole, repeats_last_row
from mptt.callbacks.shared import choose_sync
from mptt.datamodules import SeriesDataModule
from mptt.datamodules.batching.batches import TrainingWindows

HELPER = Path(many.__file__)
TABLES = ("mu", "mean", "count")


def run(folder: Path, processes: int, names: list[str]) -> Path:
    """All runs in one start of the processes, once for all workers of the tests."""
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            folder.mkdir()
            many.alone(folder)
            command = [sys.executable, str(HELPER), str(folder), str(processes), *names]
            done = subprocess.run(command, cwd=HELPER.parent, capture_output=True, text=True, timeout=240, check=False)
            (folder / "output.txt").write_text(done.stdout + done.stderr)
        assert all((folder / f"{name}-{rank}.pt").exists() for name in names for rank in range(processes)), (
            folder / "output.txt"
        ).read_text()[-3000:]
    return folder


@pytest.fixture(scope="session")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.getbasetemp()
    return run((root.parent if root.name.startswith("popen") else root) / "two", 2, list(many.RUNS))


def found(folder: Path, name: str, processes: int = 2) -> list[dict[str, Any]]:
    return [torch.load(folder / f"{name}-{rank}.pt", weights_only=True) for rank in range(processes)]


def assert_same_memories(ranks: list[dict[str, Any]]) -> None:
    for other, name in itertools.product(ranks[1:], TABLES):
        assert torch.equal(ranks[0][name], other[name]), name


def joined(ranks: list[dict[str, Any]]) -> dict[str, Tensor]:
    """The memory of all; where each has rows of its own, they are put together."""
    ids = torch.cat([rank["ids"] for rank in ranks])
    if torch.equal(ranks[0]["ids"], ranks[-1]["ids"]):
        assert_same_memories(ranks)
        return {name: ranks[0][name] for name in TABLES}
    assert torch.equal(ids.sort().values, torch.arange(len(ids)))  # each row once
    return {name: torch.cat([rank[name] for rank in ranks])[ids.argsort()] for name in TABLES}


def assert_close(one: dict[str, Tensor], other: dict[str, Tensor], tolerance: float = 1e-6) -> None:
    assert set(one) == set(other)
    for name in one:
        torch.testing.assert_close(one[name], other[name], atol=tolerance, rtol=0, check_dtype=False, msg=name)


def test_step_files_after_each_step_what_one_process_files_of_the_joined_batch(two: Path) -> None:
    ranks = found(two, "step")
    assert_same_memories(ranks)
    callback = MPTTCallback(windows=many.WINDOWS)
    recorder, module = many.Recorder(callback), seeded(Regressor)
    joined = [order[:8] for order in shuffles(many.EPOCHS)]
    quiet_trainer([callback, recorder]).fit(module, loader(joined, batch_size=4))
    assert len(recorder.after) == 2 * many.EPOCHS
    for nth, expected in enumerate(recorder.after):
        for rank in ranks:
            torch.testing.assert_close(rank["after"][nth], expected, atol=1e-6, rtol=0)
    assert_close({name: ranks[0][name] for name in TABLES}, {name: many.tables(callback)[name] for name in TABLES})
    assert_close(ranks[0]["weights"], module.state_dict())


@torch.no_grad()
def test_epoch_reads_its_own_writes_and_folds_in_the_mean_of_all(two: Path) -> None:
    ranks = found(two, "epoch")
    assert_same_memories(ranks)
    gru, inputs, keymap, delta = seeded(many.Still).gru, many.Windows(), KeyMap(many.WINDOWS), 1.0
    mu = {window: torch.zeros(4) for window in range(len(TABLE))}
    for epoch in range(many.EPOCHS):
        writes: list[dict[int, list[Tensor]]] = []
        for rank in range(2):
            own: dict[int, list[Tensor]] = {window: [] for window in mu}
            order = many.rank_orders(rank, 2, 2)[epoch]
            for batch in (order[:2], order[2:]):
                messages = []
                for window in batch:
                    sums = sum(own[window], delta * mu[window])
                    messages.append(sums / (delta + len(own[window])) if epoch else torch.zeros(4))
                x = torch.stack([inputs[window]["x"] for window in batch])
                states = gru(x, torch.stack(messages).unsqueeze(0))[0]
                for row, target, position in zip(*keymap.links(torch.tensor(batch)), strict=True):
                    own[int(target)].append(states[row, position])
            writes.append(own)
        for window in mu:
            all_writes = writes[0][window] + writes[1][window]
            if all_writes:
                mu[window] = sum(all_writes, delta * mu[window]) / (delta + len(all_writes))
    torch.testing.assert_close(ranks[0]["mu"], torch.stack(list(mu.values())), atol=1e-6, rtol=0)


def test_a_window_that_lightning_repeats_to_fill_up_is_filed_once(two: Path) -> None:
    ranks = found(two, "padded")
    assert_same_memories(ranks)
    given = [window for rank in ranks for batch in rank["epochs"][0] for window in batch]
    (again,) = [window for window in set(given) if given.count(window) == 2]
    assert len(given) == len(TABLE) + 1
    assert len(KeyMap(many.WINDOWS).links(torch.tensor([again]))[0])  # it writes to others
    callback = MPTTCallback(windows=many.WINDOWS)
    quiet_trainer([callback], max_epochs=1).fit(seeded(many.Still), loader(shuffles(1)))
    assert_close({name: ranks[0][name] for name in TABLES}, {name: many.tables(callback)[name] for name in TABLES})


class Replay(SeriesDataModule):
    """One process; the batches of several, joined step by step."""

    batches: list[list[list[int]]]

    def train_dataloader(self) -> Any:
        epochs = iter(self.batches)

        class Joined:
            def __iter__(self) -> Iterator[list[int]]:
                return iter(next(epochs))

            def __len__(self) -> int:
                return steps

        steps = len(self.batches[0])
        windows = TrainingWindows(self._ready(), self.parts["train"], self.windows)
        return DataLoader(windows, batch_sampler=Joined(), collate_fn=lambda batch: batch)  # type: ignore[arg-type]


def joined_batches(ranks: list[dict[str, Any]]) -> list[list[list[int]]]:
    """Of each epoch the batches of all processes, joined step by step."""
    return [
        [list(itertools.chain(*step)) for step in zip(*epochs, strict=True)]
        for epochs in zip(*(rank["epochs"] for rank in ranks), strict=True)
    ]


def replay(ranks: list[dict[str, Any]], lengths: tuple[int, ...], **settings: Any) -> tuple[MPTTCallback, Any, Any]:
    plain = {"inputs": ["rain"], "targets": ["flow"], "window": 10, "stride": 5, "batch_size": 4, "chunk": 17}
    data = Replay(many.dataset(lengths), **plain)  # type: ignore[arg-type]
    data.batches = joined_batches(ranks)
    callback, module = MPTTCallback(**settings), many.model()
    trainer = quiet_trainer([callback, MessageQuality()])
    trainer.fit(module, datamodule=data)
    logged = dict(trainer.callback_metrics)
    trainer.test(module, datamodule=many.data(lengths), verbose=False)
    return callback, module, logged


def check_series(folder: Path, name: str, processes: int = 2, **settings: Any) -> None:
    ranks = found(folder, name, processes)
    for epoch in range(many.EPOCHS):
        given = [window for rank in ranks for batch in rank["epochs"][epoch] for window in batch]
        assert sorted(given) == list(range(76))  # each window once, none left out
        sizes = [[len(batch) for batch in rank["epochs"][epoch]] for rank in ranks]
        assert all(size == sizes[0] for size in sizes)  # so that mean losses are the joined batch's
    callback, module, logged = replay(ranks, many.EQUAL, **settings)
    assert_close(ranks[0]["weights"], module.state_dict())
    expected = {key: many.tables(callback)[key] for key in TABLES}
    assert_close(joined(ranks), expected)
    saved = torch.load(folder / f"{name}.ckpt", weights_only=True)["mptt_memory"]["maps"]["core"]
    assert_close({key: saved[key] for key in TABLES}, expected)
    for rank in ranks:
        assert_close(rank["scores"], module.test_scores, 1e-4)
        for key in ("val_loss", "val_nse", "val_rmse", "mptt/share", "mptt/age", "mptt/distance"):
            torch.testing.assert_close(rank["logged"][key].float(), logged[key].float(), atol=1e-5, rtol=1e-5, msg=key)
        # The first process measures windows of its own: where each has whole sites, others than one process would.
        quality = [key for key in logged if key.startswith("mptt/staleness")]
        assert len(quality) == 5
        for key in quality:
            expected = ranks[0]["logged"][key] if "sites" in name else logged[key]
            torch.testing.assert_close(rank["logged"][key], expected, atol=1e-4, rtol=1e-3, msg=key)


@pytest.mark.parametrize("name", ["windows", "sites"])
def test_a_series_module_trains_and_scores_as_one_process_with_the_joined_batches(two: Path, name: str) -> None:
    check_series(two, name)


@pytest.mark.parametrize("name", ["linked", "linked_sites"])
def test_linkage_over_the_sites_of_each_process_sets_the_messages_of_all(two: Path, name: str) -> None:
    check_series(two, name, warmup_epochs=1)


def test_sites_stay_in_one_process_and_no_process_knows_of_another(two: Path) -> None:
    windows = many.data(many.EQUAL)
    windows.setup("fit")
    given = [{windows.windows.site[w] for batch in rank["epochs"][0] for w in batch} for rank in found(two, "sites")]
    assert len(given[0]) == len(given[1]) == 2
    assert not given[0] & given[1]


def check_scores(folder: Path, name: str, lengths: tuple[int, ...], processes: int = 2) -> None:
    ranks = found(folder, name, processes)
    assert_same_memories(ranks)
    module = many.model()
    module.load_state_dict(ranks[0]["weights"])
    trainer = quiet_trainer([StatefulCallback(training=False)])
    (logged,) = trainer.validate(module, datamodule=many.data(lengths), verbose=False)
    trainer.test(module, datamodule=many.data(lengths), verbose=False)
    written = pd.read_csv(folder / name / "scores.csv")
    assert written["site"].tolist() == [f"s{nth}" for nth in range(len(lengths))]
    np.testing.assert_allclose(written["nse"], module.test_scores["nse"][0], atol=1e-4)
    for rank in ranks:
        assert_close(rank["scores"], module.test_scores, 1e-4)
        assert float(rank["logged"]["val_loss"]) == pytest.approx(logged["val_loss"], rel=1e-4)


@pytest.mark.parametrize(("name", "lengths"), [("unequal", many.UNEQUAL), ("one_site", (300,))])
def test_scores_are_those_of_one_process_whatever_sites_each_has(
    two: Path, name: str, lengths: tuple[int, ...]
) -> None:
    check_scores(two, name, lengths)


@pytest.mark.parametrize("name", ["exact_step", "exact_summed", "exact_epoch", "exact_sites"])
@pytest.mark.parametrize("point", many.POINTS)
def test_a_resumed_run_ends_bit_identical(two: Path, name: str, point: tuple[int, int]) -> None:
    epoch, batches = point
    for rank in found(two, name):
        whole, resumed = rank["whole"], rank[str(point)]
        rest = whole["given"][epoch][batches:] if batches else []
        left = [*([rest] if rest else []), *whole["given"][epoch + 1 :]]
        assert [one for one in resumed["given"] if one] == left  # the rest of the epoch, and what comes after
        for key, value in whole["state"].items():
            if key != "distance" or left:
                assert torch.equal(resumed["state"][key], value), key
    ranks = found(two, name)
    assert not torch.equal(*(rank["whole"]["state"]["random"] for rank in ranks))


def replayed(ranks: list[dict[str, Any]], path: Path, epochs: slice) -> None:
    """One process goes on from a checkpoint with the joined batches, and ends where several did."""
    data = Replay(many.dataset(many.EQUAL), inputs=["rain"], targets=["flow"], window=10, stride=5, chunk=17)
    data.batches = joined_batches(ranks)[epochs]
    callback, module = MPTTCallback(), many.model()
    quiet_trainer([callback], max_epochs=many.EPOCHS).fit(module, datamodule=data, ckpt_path=path)
    assert_close(ranks[0]["weights"], module.state_dict())
    assert_close(joined(ranks), {key: many.tables(callback)[key] for key in TABLES})


@pytest.mark.skipif(not EXACT_LIGHTNING, reason="Lightning before 2.5 begins the epoch again that had come to its end")
@pytest.mark.parametrize("name", ["windows", "sites"])
def test_one_process_goes_on_from_the_end_of_an_epoch_of_two(two: Path, name: str) -> None:
    replayed(found(two, name), two / f"{name}-saved" / "0-0.ckpt", slice(1, None))


@pytest.mark.skipif(not EXACT_LIGHTNING, reason="Lightning before 2.5 begins the epoch again that had come to its end")
@pytest.mark.parametrize("name", ["windows", "sites"])
def test_two_processes_go_on_from_the_end_of_an_epoch_of_one(two: Path, name: str) -> None:
    replayed(found(two, f"from_one_{name}"), two / "alone" / "0-0.ckpt", slice(None))


@pytest.mark.parametrize("name", ["windows", "sites"])
def test_another_number_of_processes_does_not_go_on_from_the_middle_of_an_epoch(two: Path, name: str) -> None:
    with pytest.raises(MPTTError, match=r"another: 2 trained it, here 1\. .* Trainer\(devices=2\)"):
        replayed(found(two, name), two / f"{name}-saved" / "1-7.ckpt", slice(1, None))
    for rank in found(two, f"from_one_{name}"):
        assert "the number of processes is another: 1 trained it, here 2." in rank["said"]


def test_a_checkpoint_from_the_middle_of_an_epoch_holds_the_writes_of_all_once(two: Path) -> None:
    ranks = found(two, "halfway")
    assert ranks[0]["count"].any()
    assert ranks[1]["count"].any()  # each has its own
    callback = MPTTCallback(windows=many.WINDOWS)
    recorder = many.Recorder(callback)
    trainer = quiet_trainer([callback, recorder], max_steps=1)
    trainer.fit(seeded(many.Still), loader([order[:8] for order in shuffles(1)], batch_size=4))
    saved = ranks[0]["saved"]
    torch.testing.assert_close(saved["mean"], recorder.after[0], atol=1e-6, rtol=0)
    assert torch.equal(saved["count"] > 0, recorder.after[0].abs().amax(dim=1) > 0)
    assert torch.equal(saved["count"], ranks[0]["count"] + ranks[1]["count"])


@pytest.mark.slow
def test_four_processes_do_what_two_do(tmp_path: Path) -> None:
    folder = run(tmp_path / "four", 4, ["windows", "sites", "unequal"])
    check_series(folder, "windows", 4)
    check_series(folder, "sites", 4)
    check_scores(folder, "unequal", many.UNEQUAL, 4)


@pytest.mark.parametrize("size", range(1, 8))
@pytest.mark.parametrize("processes", [2, 3, 4])
@pytest.mark.parametrize("drop_last", [False, True])
def test_repeated_samples_are_found_by_their_place(size: int, processes: int, drop_last: bool) -> None:
    given: list[int] = []
    for rank in range(processes):
        sampler: DistributedSampler[int] = DistributedSampler(
            range(size),
            processes,
            rank,
            shuffle=False,
            drop_last=drop_last,  # type: ignore[arg-type]
        )
        batches = DataLoader(range(size), batch_size=2, sampler=sampler)  # type: ignore[arg-type,var-annotated]

        class Fake:
            train_dataloader = batches

        for nth, batch in enumerate(batches):
            rows = batch.tolist()
            given += rows[:-1] if repeats_last_row(Fake(), nth) else rows  # type: ignore[arg-type]
    left_out = size % processes if drop_last else 0
    assert sorted(given) == sorted(set(given))
    assert len(given) == size - left_out


def test_one_process_is_no_more_than_it_was() -> None:
    callback = MPTTCallback(windows=many.WINDOWS, sync="epoch")
    plain = MPTTCallback(windows=many.WINDOWS)
    for one in (callback, plain):
        quiet_trainer([one]).fit(seeded(Regressor), loader(shuffles(many.EPOCHS)))
    assert isinstance(callback._ready(), Memory)
    assert torch.equal(callback.memory.mu, plain.memory.mu)  # type: ignore[union-attr]


def test_none_needs_a_module_that_gives_whole_sites() -> None:
    with pytest.raises(MPTTError, match='use SeriesDataModule\\(shard="site"\\), or sync="step"'):
        choose_sync("none", many.data(many.EQUAL), many.WINDOWS, 2)
    assert choose_sync(None, None, many.WINDOWS, 2) == ("step", None)
    with pytest.raises(MPTTError, match="sync is step, epoch, none or None, found 'batch'"):
        MPTTCallback(sync="batch")  # type: ignore[arg-type]


@pytest.mark.parametrize("wrapped", [True, False])
def test_evaluation_that_is_dealt_out_batch_by_batch_is_refused(wrapped: bool) -> None:
    batches = in_order(stretches(7))
    sampler: Any = DistributedSampler(batches.dataset, 2, 0, shuffle=False)  # type: ignore[arg-type]

    class Trainer:
        world_size, state = 2, type("State", (), {"stage": RunningStage.VALIDATING})
        val_dataloaders = DataLoader(batches.dataset, batch_size=None, sampler=sampler if wrapped else None)

    if wrapped:
        with pytest.raises(MPTTError, match="dealt out the batches of evaluation to 2 processes one by one"):
            check_series_are_whole(Trainer(), 0, "MPTTCallback")  # type: ignore[arg-type]
    else:
        check_series_are_whole(Trainer(), 0, "MPTTCallback")  # type: ignore[arg-type]


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("name", ["FSDPStrategy", "ModelParallelStrategy", "DeepSpeedStrategy"])
def test_strategies_that_divide_the_module_are_refused(name: str, processes: int) -> None:
    kind = getattr(pl.strategies, name)

    class Trainer:
        world_size, callbacks = processes, ()
        # DeepSpeed's is not made without the package of that name.
        strategy = kind.__new__(kind) if name == "DeepSpeedStrategy" else kind()

    with pytest.raises(MPTTError, match=rf'found {name}, in a world of {processes}\. .*Trainer\(strategy="ddp"\)'):
        MPTTCallback().setup(Trainer(), seeded(Regressor), "fit")  # type: ignore[arg-type]


def test_a_trainer_that_divides_the_module_is_refused() -> None:
    callback = MPTTCallback()
    strategy = pl.strategies.ModelParallelStrategy()  # of the three the one that Lightning takes on a CPU
    trainer = pl.Trainer(strategy=strategy, accelerator="cpu", devices=2, logger=False, enable_checkpointing=False)
    with pytest.raises(MPTTError, match="found ModelParallelStrategy, in a world of 2"):
        callback.setup(trainer, seeded(Regressor), "fit")
    with pytest.raises(ValueError, match="`fsdp` requires a GPU accelerator"):
        pl.Trainer(strategy="fsdp", accelerator="cpu", devices=2)
