"""Sequential stateful inference: whole series through a recurrent layer, many chunks of them at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn

from mptt.carried import CarriedState, check_in_order
from mptt.chunks import Chunks
from mptt.errors import MPTTError
from mptt.fastgru import fast_forward, is_installed
from mptt.keymap import KeyMap, Links
from mptt.recurrent import Hidden, RecurrentLayer, run, state_size, unflatten_state
from mptt.sweeps import Run, Sweeps, sweep
from mptt.windows import Int64Array

Advance = Callable[[Tensor, Links], tuple[Tensor, Tensor]]

_SHORTEST = 365  # steps in a chunk; of daily data, a year
_REMEMBERED = 5 * _SHORTEST  # steps that a model is first taken to remember
_COMPILED_FROM = 10_000  # steps of all rows
_WORTH = 0.8  # of the time of a plain pass, below which sweeps are tried


@dataclass(frozen=True)
class Parallel:
    """How series are run in parallel.

    Args:
        tolerance: largest change of a state handed from chunk to chunk at which the sweeps stop.
        max_sweeps: after so many sweeps the rest is run in order; 0: all of it. By default as long as they pay.
        chunk: steps in a chunk; by default what is expected to be fastest, and no chunks where a plain pass is.
    """

    tolerance: float = 1e-5
    max_sweeps: int | None = None
    chunk: int | None = None

    def __post_init__(self) -> None:
        for name, least in (("tolerance", 0), ("max_sweeps", 0), ("chunk", 1)):
            value = getattr(self, name)
            if value is not None and not value >= least:
                raise MPTTError(f"{name} must be {least} or more, found {value}.")


@dataclass(frozen=True)
class Guess:
    """Where the sweeps over a batch begin: what came of the last ones over the same stretches.

    Attributes:
        states: (C, S) initial states of the chunks.
        response: (S, S) as of `mptt.sweeps.sweep`.
        passes: what the last ones cost.
    """

    states: Tensor
    response: Tensor
    passes: float


@dataclass
class Series:
    """What an evaluation batch is of series: how its rows hang together, where to begin, and what was done.

    Attributes:
        length: (B,) steps of each row; the rest is padding.
        follows: (B,) the row of the batch that each goes on from; -1 for none.
        parallel: settings.
        guesses: of each recurrent layer, by name; read, and replaced by what came out.
        done: what the sweeps of each layer did.
    """

    length: Int64Array
    follows: Int64Array
    parallel: Parallel
    guesses: dict[str, Guess] = field(default_factory=dict)
    done: dict[str, Sweeps] = field(default_factory=dict)


@dataclass(frozen=True)
class Inferred:
    """What came out of a pass.

    Attributes:
        output: the layer's, (B, L, H) or (L, B, H); what it holds beyond the length of a row is of no use.
        hidden: the layer's final hidden state: of each row after its last step.
        caught: (K, S) states asked for.
        done: what the sweeps did.
        guess: for the next pass over the same rows, after training has gone on; None where none is needed.
    """

    output: Tensor
    hidden: Hidden
    caught: Tensor
    done: Sweeps
    guess: Guess | None


@torch.no_grad()
def infer(
    layer: RecurrentLayer,
    inputs: Tensor,
    initial: Tensor | None = None,
    length: Int64Array | None = None,
    follows: Int64Array | None = None,
    row: Tensor | None = None,
    position: Tensor | None = None,
    parallel: Parallel | None = None,
    guess: Guess | None = None,
    forward: Callable[..., Any] | None = None,
) -> Inferred:
    """Run series through a recurrent layer, in parallel where that is faster; without gradient.

    The rows are cut into chunks, and all chunks run as one batch, as of `mptt.sweeps.sweep`. The result is that of
    `layer(inputs)`, up to the tolerance in the states. An nn.GRU on the CPU goes through the compiled loops of
    `mptt.fastgru` where numba is installed and there are steps enough; they gain more than chunks do.

    Args:
        layer: one direction, any number of layers, `batch_first` either way, with or without `proj_size`.
        inputs: (B, L, F), or (L, B, F) without `batch_first`.
        initial: (B, S) flat initial states; zeros by default. Of rows that follow another, guesses.
        length: (B,) steps of each row, the rest is padding; by default all L.
        follows: (B,) the row, of a lower number, that each goes on from; -1, the default, for none.
        row: (K,) rows to catch a state of, int64 on the CPU.
        position: (K,) after which step of the row.
        parallel: settings.
        guess: of the last pass over rows of the same lengths; another one is not used.
        forward: what to call in place of the layer's own forward, with (inputs, hx), which is then taken as it is.

    Example:
        >>> gru = nn.GRU(2, 3, batch_first=True)
        >>> x = torch.randn(1, 20_000, 2)
        >>> inferred = infer(gru, x, parallel=Parallel(chunk=200))
        >>> torch.allclose(inferred.output, gru(x)[0], atol=1e-4), inferred.done.chunks
        (True, 100)
    """
    parallel = Parallel() if parallel is None else parallel
    rows = inputs if layer.batch_first else inputs.transpose(0, 1)
    batch, steps = rows.shape[:2]
    length = np.full(batch, steps) if length is None else np.minimum(length, steps)
    follows = np.full(batch, -1) if follows is None else follows
    row, position = (torch.empty(0, dtype=torch.int64) if one is None else one for one in (row, position))
    if initial is None:
        initial = inputs.new_zeros(batch, state_size(layer))
    compiled = forward is None and isinstance(layer, nn.GRU) and _goes_through_loops(inputs)
    if compiled:
        forward = partial(fast_forward, cast(nn.GRU, layer))
    width = float(torch.get_num_threads()) if compiled else _width(layer, inputs)
    chunk = _chunk(parallel, length, follows, width, guess)
    if chunk is None and (follows < 0).all():
        ends = torch.arange(batch), torch.from_numpy(length - 1)
        asked = torch.cat([row, ends[0]]), torch.cat([position, ends[1]])
        output, _, caught = run(layer, inputs, initial, *asked, forward)
        done = Sweeps(chunks=batch, sweeps=1, runs=batch, in_order=0, largest_change=0.0)
        return Inferred(output, unflatten_state(layer, caught[len(row) :]), caught[: len(row)], done, guess)

    chunks = Chunks(layer, rows, length, follows, chunk or steps, row, position, forward)
    begin = initial.to(inputs.device, inputs.dtype)[chunks.row.to(inputs.device)]
    most = parallel.max_sweeps if chunk is not None else 0
    _, done, guess = settle(chunks.run, begin, chunks.follows, parallel.tolerance, most, guess, width)
    output, final = chunks.laid_out()
    return Inferred(
        output if layer.batch_first else output.transpose(0, 1),
        unflatten_state(layer, final),
        chunks.caught,
        done,
        guess,
    )


def settle(
    run: Run,
    initial: Tensor,
    follows: Int64Array,
    tolerance: float,
    max_sweeps: int | None,
    guess: Guess | None,
    width: float = 28.0,
) -> tuple[Tensor, Sweeps, Guess]:
    """The initial states of chunks, as of `mptt.sweeps.sweep`, from those that the last pass over them found.

    Returns:
        The states (C, S), what was done, and the guess for the next pass.
    """
    response = None
    if guess is not None and guess.states.shape == initial.shape:
        opens = torch.from_numpy(follows < 0).to(initial.device).unsqueeze(1)
        # Of a pass that was lost there is nothing to begin with.
        opens = opens | ~guess.states.isfinite().all(1, keepdim=True).to(initial.device)
        initial = torch.where(opens, initial, guess.states.to(initial))
        response = guess.response if bool(guess.response.isfinite().all()) else None
    states, done, response = sweep(
        run,
        initial,
        torch.from_numpy(follows),
        tolerance=tolerance,
        max_sweeps=max_sweeps,
        width=width,
        response=response,
    )
    return states, done, Guess(states, response, done.passes)


def _chunk(
    parallel: Parallel, length: Int64Array, follows: Int64Array, width: float, guess: Guess | None
) -> int | None:
    """Steps in a chunk; None where a plain pass is expected to be as fast."""
    if parallel.max_sweeps == 0:
        return None
    longest = int(length.max())
    if parallel.chunk is not None:
        return min(parallel.chunk, longest)
    series = (follows < 0).sum()
    # Four times the width side by side: more are no faster than longer ones, which need fewer sweeps.
    chunk = min(max(_SHORTEST, -(-int(length.sum()) // int(4 * width))), longest)
    chunk = -(-longest // -(-longest // chunk))  # the last one as long as the others
    passes = 2 + _REMEMBERED / chunk if guess is None else guess.passes
    swept = passes * chunk * (1 + length.sum() / chunk / width)
    plain = length.sum() / series * (1 + series / width)
    return chunk if swept < _WORTH * plain else None


def _goes_through_loops(inputs: Tensor) -> bool:
    plain = inputs.device.type == "cpu" and inputs.dtype in (torch.float32, torch.float64)
    # Before that, loading what was compiled takes longer than all that is gained.
    return plain and inputs.shape[0] * inputs.shape[1] >= _COMPILED_FROM and is_installed()


def _width(layer: RecurrentLayer, inputs: Tensor) -> float:
    """Rows side by side whose arithmetic takes as long as what a step costs whatever their number."""
    if inputs.is_cuda:
        return 4096.0
    # oneDNN runs an LSTM with little cost besides the arithmetic; the others are run operation by operation.
    return max((200 if isinstance(layer, nn.LSTM) else 900) / layer.hidden_size, 1.0)


class Memory(Protocol):
    """What linkage asks of a memory; a StateMap, or several side by side."""

    state_size: int

    def link(self, rows: Tensor, states: Tensor) -> None:
        """Set messages (K, S) of rows (K,)."""


def reconstruct_linkage(
    memory: Memory,
    keymap: KeyMap,
    chunks: Iterable[tuple[Int64Array, Int64Array, Int64Array | int]],
    advance: Advance,
) -> int:
    """Set every message to the state that one pass over the series gives: the linkage reconstruction of Enhanced MPTT.

    Each series is fed in order from zero state. A window v gets the state after step `a_v - 1` (section 3.4 of arXiv
    2309.16882); windows at the first step of a series keep what they have, zeros.

    Args:
        memory: the messages to set; a StateMap, or what holds several.
        keymap: of the same windows.
        chunks: (site (B,), first step (B,), number of steps) of each piece of the series, in order.
        advance: runs the model over the next chunk, in eval mode without gradient: from the initial states (B, S) and
            the (row, target, position) of the states to catch, to those states (K, S) and the final states (B, S).
            Rows that go on from another of the same chunk start from its end, as of `rows_before`.

    Returns:
        Number of messages set.
    """
    carried = CarriedState(memory.state_size)
    linked = 0
    for site, start, steps in chunks:
        length = np.broadcast_to(np.asarray(steps), site.shape)
        check_in_order(carried, site, start, length)
        links = keymap.reach(site, start, steps)
        states, final = advance(carried.read(site, site, start), links)
        memory.link(links[1], states)
        carried.keep_last(site, start + length, final)
        linked += len(links[1])
    return linked
