"""A module's recurrent core as the callbacks see it: states go in, states come out."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Protocol

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from mptt.callbacks.steps import leaving_no_trace, own_step
from mptt.errors import MPTTError
from mptt.inference import Series, settle
from mptt.recurrent import recurrent_layers, state_units
from mptt.tap import Tap, first_lost
from mptt.windows import Int64Array


class Core(Protocol):
    """What a callback asks of a core. States are flat, (B, S).

    Attributes:
        sizes: numbers in the state of each part of the core, by name; S is their sum.
    """

    sizes: dict[str, int]

    @property
    def units(self) -> list[tuple[str, int, str]]:
        """Of each number in a state, the part of the core, the number of its layer, and "h" or "c"."""

    def start(
        self,
        batch: dict[str, Any],
        initial: Tensor,
        row: Tensor,
        position: Tensor,
        steps: Collection[int] | None,
        follows: Tensor | None = None,
        series: Series | None = None,
    ) -> None:
        """Before the module runs a batch: set initial states (B, S) and say which states to catch.

        Rows that follow the one before them (`follows`, bool (B,)) start from the state in which that one ends; in
        evaluation `series` says it, of all rows that hang together.
        """

    def lost(self, outputs: Any, length: Int64Array) -> Tensor | None:
        """After it ran without gradient, before `finish`: (B,) the first step at which a row is not finite.

        Its `length` (B,) where it is, as far as the core shows; None where it shows nothing.
        """

    def finish(self, outputs: Any) -> Tensor | None:
        """After it ran: the caught states (K, S), detached; None where the core was not run."""

    def release(self) -> None:
        """Leave the module as it was; safe at any time."""


class DropInCore:
    """The recurrent layers of a module that knows nothing of this.

    Args:
        module: holds nn.RNN, nn.GRU or nn.LSTM layers.
        rnn: the layers to use, by dotted name; by default the only one.
        owner: who asks, for messages.

    Raises:
        MPTTError: no such layer, more than one and none named, or one that no state can be carried through.
    """

    def __init__(self, module: nn.Module, rnn: str | Sequence[str] | None, owner: str) -> None:
        found = recurrent_layers(module)
        if rnn is None:
            if not found:
                raise MPTTError(
                    f"{owner} found no nn.RNN, nn.GRU or nn.LSTM in {type(module).__name__}. For another core use"
                    f" explicit mode: {owner}(state_size=S), with the initial states in batch['h0'] (B, S) and the"
                    " states after each step (B, L, S) returned as 'states'."
                )
            if len(found) > 1:
                first, listed = next(iter(found)), ", ".join(found)
                raise MPTTError(
                    f'{owner} found {len(found)} recurrent layers ({listed}); pass rnn="{first}" or a list.'
                )
            rnn = list(found)
        names = [rnn] if isinstance(rnn, str) else list(rnn)
        if unknown := [name for name in names if name not in found]:
            raise MPTTError(
                f"{type(module).__name__} has no recurrent layer {', '.join(map(repr, unknown))}; there"
                f" are {', '.join(found) or 'none'}."
            )
        if not names or len(set(names)) < len(names):
            raise MPTTError(f"rnn= names each layer once, and at least one; found {names}.")
        self._taps = [Tap(found[name], name) for name in names]
        self.sizes = {tap.name: tap.state_size for tap in self._taps}

    @property
    def units(self) -> list[tuple[str, int, str]]:
        """See `Core`."""
        return [(tap.name, *unit) for tap in self._taps for unit in state_units(tap.layer)]

    def start(
        self,
        batch: dict[str, Any],
        initial: Tensor,
        row: Tensor,
        position: Tensor,
        steps: Collection[int] | None,
        follows: Tensor | None = None,
        series: Series | None = None,
    ) -> None:
        """See `Core`."""
        for tap, part in zip(self._taps, initial.split(list(self.sizes.values()), dim=1), strict=True):
            tap.attach(part, row, position, steps, follows, series)

    def lost(self, outputs: Any, length: Int64Array) -> Tensor | None:
        """See `Core`."""
        found = [step for tap in self._taps if (step := tap.lost) is not None]
        return torch.stack([step.to(found[0].device) for step in found]).amin(0) if found else None

    def finish(self, outputs: Any) -> Tensor | None:
        """See `Core`."""
        caught = {tap.name: tap.detach() for tap in self._taps}
        states = [part for part in caught.values() if part is not None]
        if not states:
            return None
        if len(states) < len(caught):
            missing = ", ".join(name for name, part in caught.items() if part is None)
            raise MPTTError(f"The module ran without {missing} in this batch; name only layers that always run.")
        return torch.cat([part.to(states[0].device) for part in states], dim=1)

    def release(self) -> None:
        """See `Core`."""
        for tap in self._taps:
            tap.detach()


class ExplicitCore:
    """Any core, by agreement: the module reads `batch["h0"]` (B, S) and its step returns `states` (B, L, S).

    Args:
        module: whose dtype and device `h0` takes.
        size: numbers in a state, S.
    """

    def __init__(self, module: pl.LightningModule, size: int) -> None:
        self.sizes = {"states": size}
        self._module = module
        self._links: tuple[int, Tensor, Tensor] | None = None

    @property
    def units(self) -> list[tuple[str, int, str]]:
        """See `Core`; what the numbers mean only the module knows."""
        return [("states", 0, "h")] * self.sizes["states"]

    def start(
        self,
        batch: dict[str, Any],
        initial: Tensor,
        row: Tensor,
        position: Tensor,
        steps: Collection[int] | None,
        follows: Tensor | None = None,
        series: Series | None = None,
    ) -> None:
        """See `Core`."""
        if series is not None and (series.follows >= 0).any():
            initial = self._settled(batch, initial, series)
        if follows is not None and follows.any():
            raise MPTTError(
                "Explicit mode (state_size=) cannot start a window from the end of another of the same batch: its"
                " states are known only after the step. Use nn.RNN, nn.GRU or nn.LSTM, or lanes (StatefulCallback)."
            )
        batch["h0"] = self._fit(initial)
        self._links = (len(initial), row, position)

    def lost(self, outputs: Any, length: Int64Array) -> Tensor | None:
        """See `Core`."""
        states = outputs.get("states") if isinstance(outputs, dict) else None
        return first_lost(states, length) if isinstance(states, Tensor) and states.ndim == 3 else None

    def finish(self, outputs: Any) -> Tensor | None:
        """See `Core`."""
        # {} is what Lightning makes of a training_step that returned None, to skip the batch.
        if self._links is None or (isinstance(outputs, dict) and not outputs):
            return None
        (batch, row, position), self._links = self._links, None
        if not isinstance(outputs, dict) or "states" not in outputs:
            found = f"keys {', '.join(map(str, outputs))}" if isinstance(outputs, dict) else type(outputs).__name__
            raise MPTTError(
                "Explicit mode (state_size=) needs the states after each step from training_step, and from the"
                ' validation, test and predict steps: return {"loss": ..., "states": ...} with states (B, L, S);'
                f" found {found}."
            )
        states, size = outputs["states"], self.sizes["states"]
        steps = int(position.max()) + 1 if len(position) else 1
        shape = tuple(states.shape) if isinstance(states, Tensor) else type(states).__name__
        if not isinstance(shape, tuple) or len(shape) != 3 or (shape[0], shape[2]) != (batch, size) or shape[1] < steps:
            raise MPTTError(
                f"'states' must be (batch, step, state) = ({batch}, {steps} or more, {size}), found {shape}."
            )
        # A copy: under CUDA graphs the next step writes over its outputs.
        at = (index.to(states.device, non_blocking=True) for index in (row, position))
        return states.detach()[tuple(at)]

    def release(self) -> None:
        """See `Core`."""
        self._links = None

    def _settled(self, batch: dict[str, Any], initial: Tensor, series: Series) -> Tensor:
        """The initial states of all rows, those of rows that follow another among them: by `predict_step`, unseen."""
        owner = "Evaluating several stretches of a series in one batch, in explicit mode (state_size=),"
        step = own_step(self._module, ["predict_step"], owner)
        size, name = len(initial), next(iter(self.sizes))

        def run(rows: Tensor, states: Tensor) -> Tensor:
            part = {
                key: one[rows.to(one.device)] if isinstance(one, Tensor) and one.shape[:1] == (size,) else one
                for key, one in batch.items()
            }
            ends = torch.arange(len(rows)), torch.from_numpy(series.length)[rows] - 1
            self._links, part["h0"] = (len(rows), *ends), self._fit(states)
            with self._module.trainer.precision_plugin.val_step_context():
                found = self.finish(step(part))
            assert found is not None
            return found

        with torch.no_grad(), leaving_no_trace(self._module):
            settings = series.parallel.tolerance, series.parallel.max_sweeps, series.guesses.get(name)
            states, series.done[name], guess = settle(run, self._fit(initial), series.follows, *settings)
        series.guesses[name] = guess
        return states

    def _fit(self, states: Tensor) -> Tensor:
        """States in the dtype and on the device of the module."""
        like = next((p for p in self._module.parameters() if p.is_floating_point()), torch.empty(0))
        return states.to(like.device, like.dtype)


def find_core(module: pl.LightningModule, rnn: str | Sequence[str] | None, state_size: int | None, owner: str) -> Core:
    """The core of a module: explicit where a state size is given, by the argument or by a core-less module itself.

    Raises:
        MPTTError: both ways are asked for, or see `DropInCore`.
    """
    if rnn is not None and state_size is not None:
        raise MPTTError(f"{owner} takes rnn= (drop-in mode) or state_size= (explicit mode), found both.")
    if state_size is None and rnn is None and not recurrent_layers(module):
        own = getattr(module, "state_size", None)
        state_size = own if isinstance(own, int) else None
    return DropInCore(module, rnn, owner) if state_size is None else ExplicitCore(module, state_size)
