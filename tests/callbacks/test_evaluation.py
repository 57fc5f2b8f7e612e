"""Validation, test and predict feed each series in order, the state carried from chunk to chunk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from handmade import (
    FEATURES,
    LENGTH,
    SITES,
    TABLE,
    Regressor,
    in_order,
    loader,
    quiet_trainer,
    seeded,
    series,
    shuffles,
    stretches,
)
from torch import Tensor, nn

from mptt import MPTTError, WindowIndex
from mptt.callbacks import MPTTCallback, StatefulCallback

WINDOWS = WindowIndex(*zip(*TABLE, strict=True))
CALLBACKS: list[Callable[[], Any]] = [
    lambda: MPTTCallback(windows=WINDOWS),
    lambda: StatefulCallback(training=False),
    lambda: StatefulCallback(windows=WINDOWS),
]


class Deep(Regressor):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.LSTM(FEATURES, 4, num_layers=2, batch_first=True)


@torch.no_grad()
def whole(module: Any) -> dict[int, Tensor]:
    """The prediction of each series in one pass from zeros, without any callback."""
    return {site: module(x.unsqueeze(0))[0] for site, (x, _) in series().items()}


def stitched(batches: list[dict[str, Tensor]], predictions: list[Tensor]) -> dict[int, Tensor]:
    found: dict[int, list[Tensor]] = {site: [] for site in SITES}
    for batch, predicted in zip(batches, predictions, strict=True):
        for row, site in enumerate(batch["site"].tolist()):
            found[site].append(predicted[row, : batch["length"][row]])
    return {site: torch.cat(parts) for site, parts in found.items()}


@pytest.mark.parametrize("make", CALLBACKS)
@pytest.mark.parametrize("module_class", [Regressor, Deep])
@pytest.mark.parametrize("chunk", [1, 4, 7, 100])
def test_chunks_predict_as_one_pass_over_each_series(make: Any, module_class: Any, chunk: int) -> None:
    module, batches = seeded(module_class), stretches(chunk)
    predictions = quiet_trainer([make()]).predict(module, in_order(batches))
    for site, predicted in stitched(batches, predictions).items():
        assert torch.allclose(predicted, whole(module)[site], rtol=0, atol=1e-6)


def test_one_callback_serves_modules_of_different_state_sizes() -> None:
    callback, batches = StatefulCallback(training=False), stretches(7)
    for module in (seeded(Regressor), seeded(Deep)):
        predictions = quiet_trainer([callback]).predict(module, in_order(batches))
        assert torch.allclose(stitched(batches, predictions)[0], whole(module)[0], rtol=0, atol=1e-6)


def test_without_the_callback_chunks_do_not_predict_as_one_pass() -> None:
    module, batches = seeded(Regressor), stretches(7)
    predictions = quiet_trainer().predict(module, in_order(batches))
    assert (stitched(batches, predictions)[0] - whole(module)[0]).abs().max() > 1e-2


@pytest.mark.parametrize("make", CALLBACKS)
def test_evaluation_independent_leaves_the_batches_alone(make: Any) -> None:
    module, batches = seeded(Regressor), stretches(7)
    callback = make()
    callback.evaluation = "independent"
    stripped = [{key: batch[key] for key in ("x", "y")} for batch in batches]  # no site, no start
    with_callback = quiet_trainer([callback]).predict(module, in_order(stripped))
    without = quiet_trainer().predict(module, in_order(stripped))
    assert all(torch.equal(one, other) for one, other in zip(with_callback, without, strict=True))


@pytest.mark.parametrize("verb", ["validate", "test"])
def test_the_metric_of_chunks_is_that_of_one_pass(verb: str) -> None:
    module = seeded(Regressor)
    expected = torch.cat([(whole(module)[site] - y).square() for site, (_, y) in series().items()]).mean().item()

    class Pooled(Regressor):
        def loss(self, batch: dict[str, Tensor]) -> Tensor:
            error = (self(batch["x"]) - batch["y"]).square()
            self.pooled.append(error[batch["y"].isfinite()])
            return error.nansum()

    for chunk in (3, 8):
        pooled = seeded(Pooled)
        object.__setattr__(pooled, "pooled", [])
        getattr(quiet_trainer([StatefulCallback(training=False)]), verb)(
            pooled, in_order(stretches(chunk)), verbose=False
        )
        assert abs(torch.cat(pooled.pooled).mean().item() - expected) < 1e-6


def test_validation_within_fit_is_of_the_weights_at_hand() -> None:
    found, expected = [], []

    class Watches(Regressor):
        def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
            predicted = self(batch["x"])
            for row, site in enumerate(batch["site"].tolist()):
                length, start = batch["length"][row], batch["start"][row]
                found.append(predicted[row, :length])
                plain = seeded(Regressor)
                plain.load_state_dict(self.state_dict())
                expected.append(whole(plain)[site][start : start + length])

    quiet_trainer([MPTTCallback(windows=WINDOWS)]).fit(seeded(Watches), loader(shuffles(3)), in_order(stretches(4)))
    # The sanity check feeds the first two batches; then every epoch begins anew.
    assert len(found) == 4 + 3 * sum(len(batch["site"]) for batch in stretches(4))
    assert torch.allclose(torch.cat(found), torch.cat(expected), rtol=0, atol=1e-6)


def test_each_of_several_validation_loaders_starts_its_series_anew() -> None:
    found: list[tuple[int, Tensor]] = []

    class Keeps(Regressor):
        def validation_step(self, batch: dict[str, Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
            found.append((dataloader_idx, self(batch["x"])))

    module, loaders = seeded(Keeps), [stretches(7), stretches(4)]
    quiet_trainer([StatefulCallback(training=False)]).validate(
        module, [in_order(one) for one in loaders], verbose=False
    )
    for nth, batches in enumerate(loaders):
        predictions = [predicted for of, predicted in found if of == nth]
        for site, predicted in stitched(batches, predictions).items():
            assert torch.allclose(predicted, whole(module)[site], rtol=0, atol=1e-6)


def test_sites_one_after_another_start_from_zeros_each() -> None:
    module = seeded(Regressor)
    batches = stretches(6, sites=[1]) + stretches(6, sites=[0])
    predictions = quiet_trainer([StatefulCallback(training=False)]).predict(module, in_order(batches))
    for site, predicted in stitched(batches, predictions).items():
        assert torch.allclose(predicted, whole(module)[site], rtol=0, atol=1e-6)


def swapped() -> list[dict[str, Tensor]]:
    batches = stretches(4)
    return [batches[0], batches[2], batches[1]]


def overlapping() -> list[dict[str, Tensor]]:
    batches = stretches(8)
    batches[1]["start"] = batches[1]["start"] - 2
    return batches


def doubled() -> list[dict[str, Tensor]]:
    return [{**batch, "site": torch.zeros_like(batch["site"])} for batch in stretches(4)]


def without_start() -> list[dict[str, Tensor]]:
    return [{key: value for key, value in batch.items() if key != "start"} for batch in stretches(4)]


@pytest.mark.parametrize("make", CALLBACKS)
@pytest.mark.parametrize("verb", ["validate", "test", "predict"])
@pytest.mark.parametrize(
    ("batches", "message"),
    [
        (swapped, "needs each series in order: site 0 comes with step 8, but its last stretch ended before step 4"),
        (overlapping, "needs each series in order: site 0 comes with step 6, but its last stretch ended before step 8"),
        (doubled, "needs each series in order: site 0 comes with step 0, but its last stretch ended before step 4"),
        (without_start, r"batch\['start'\].*found a dict with x, y, site, length.*evaluation=\"independent\""),
        (lambda: [[batch["x"], batch["y"]] for batch in stretches(4)], "found a list"),
        (lambda: [{**batch, "start": batch["start"] * 1.0} for batch in stretches(4)], r"found .*start torch.float32"),
        (lambda: [{**batch, "length": torch.tensor(4)} for batch in stretches(4)], r"found .*length torch.int64 \(\)"),
        (lambda: [{**batch, "length": batch["length"] * 0} for batch in stretches(4)], r"found batch\['length'\] = 0"),
        (lambda: [{**batch, "length": batch["length"] + 1} for batch in stretches(4)], "called with 4 steps.* have 5"),
    ],
)
def test_series_that_are_not_fed_in_order_are_refused(make: Any, verb: str, batches: Any, message: str) -> None:
    with pytest.raises(MPTTError, match=message):
        getattr(quiet_trainer([make()]), verb)(seeded(Regressor), in_order(batches()))


def test_an_unknown_kind_of_evaluation_is_refused() -> None:
    with pytest.raises(MPTTError, match='evaluation is "stateful", "independent" or None, found \'sequential\''):
        MPTTCallback(evaluation="sequential")  # type: ignore[arg-type]


def test_an_evaluation_step_that_does_not_run_the_layer_is_refused() -> None:
    class Idle(Regressor):
        def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
            pass

    with pytest.raises(MPTTError, match="No state came out of this evaluation step"):
        quiet_trainer([StatefulCallback(training=False)]).test(seeded(Idle), in_order(stretches(4)))


def test_zero_trained_networks_train_as_without_the_callback() -> None:
    orders, mine, plain = shuffles(2), seeded(Regressor), seeded(Regressor)
    quiet_trainer([StatefulCallback(training=False)], 2).fit(mine, loader(orders), in_order(stretches(LENGTH)))
    quiet_trainer([], 2).fit(plain, loader(orders))
    assert all(torch.equal(value, plain.state_dict()[name]) for name, value in mine.state_dict().items())


def test_a_method_of_ones_own_called_initial_state_is_left_alone() -> None:
    class Own(Regressor):
        def initial_state(self) -> None:
            raise AssertionError("nobody asked")

    found = []
    for make in (Own, Regressor):
        (output,) = quiet_trainer([StatefulCallback(training=False)]).predict(
            seeded(make), in_order(stretches(20, [0]))
        )
        found.append(output)
    assert torch.equal(*found)
