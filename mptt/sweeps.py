"""Stateful inference in parallel: all chunks of a series at once, end states handed on until they stop changing."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mptt.errors import MPTTError

Run = Callable[[Tensor, Tensor], Tensor]

_JUDGE_FROM = 4  # sweeps before it is asked whether more of them pay
_FADE = 0.3  # weight of the last sweep's changes against this one's, as the response is fitted


@dataclass(frozen=True)
class Sweeps:
    """What the sweeps over some chunks did.

    Attributes:
        chunks: number of chunks.
        sweeps: times that chunks were run side by side, each time those whose initial state still changed.
        runs: chunks run in all, those in order too; `runs / chunks` is the cost in passes over the series.
        in_order: of these, chunks run one after another in the end, because sweeps had stopped paying.
        largest_change: by how much an initial state is still off, as far as the last sweep tells; 0 in order.
    """

    chunks: int
    sweeps: int
    runs: int
    in_order: int
    largest_change: float

    @property
    def passes(self) -> float:
        """Passes over the series that the chunks run come to."""
        return self.runs / max(self.chunks, 1)

    def __add__(self, other: Sweeps) -> Sweeps:
        """What was done over the chunks of both; the larger number of sweeps."""
        return Sweeps(
            self.chunks + other.chunks,
            max(self.sweeps, other.sweeps),
            self.runs + other.runs,
            self.in_order + other.in_order,
            max(self.largest_change, other.largest_change),
        )


def sweep(
    run: Run,
    initial: Tensor,
    follows: Tensor,
    *,
    tolerance: float = 1e-5,
    max_sweeps: int | None = None,
    width: float = math.inf,
    response: Tensor | None = None,
) -> tuple[Tensor, Sweeps, Tensor]:
    """Find the state in which each chunk of a series begins, without walking along the series.

    All chunks are run side by side from guessed states, and each hands its end state to the next; those that get
    another state than they were run from are run again. A model that forgets needs few sweeps. In any case the kth
    sweep is exact for the first k chunks, so it ends, and where it would end too late, the rest is run in order.

    How end states answer to initial states is about the same linear map in all chunks. It is fitted to the changes seen
    so far (least squares) and carries a change on along the series before the next sweep, which saves half of the
    sweeps where a model forgets slowly, and tells what small changes add up to: the tolerance holds for their sum.

    Args:
        run: runs chunks: from their numbers (K,), ascending, int64 on the CPU, and initial states (K, S) to end states
            (K, S). What it puts out for a chunk stands until it runs that chunk again.
        initial: (C, S) initial states: true ones of chunks that follow none, guesses of the others.
        follows: (C,) the chunk that each goes on from, of a lower number, -1 for none; int64 on the CPU.
        tolerance: in the state; of chunks that are off by no more, the last run stands.
        max_sweeps: after so many sweeps the rest is run in order; 0: all of it.
        width: chunks side by side that double the time of a step; tells what pays.
        response: (S, S) a guess of the linear map, as returned by the last call.

    Returns:
        The states (C, S) from which the chunks were last run, what was done, and the response (S, S).

    Raises:
        MPTTError: chunks that follow later ones, or two that follow the same one.

    Example:
        >>> rain = torch.ones(4, 1)  # four chunks of a bucket that loses half of its water in each
        >>> states, done, _ = sweep(lambda k, s: (s + rain[k]) / 2, torch.zeros(4, 1), torch.tensor([-1, 0, 1, 2]))
        >>> states.flatten().tolist()
        [0.0, 0.5, 0.75, 0.875]
    """
    follows = _checked(follows)
    initial = initial.detach().clone()
    ends = torch.empty_like(initial)
    chain = torch.nonzero(follows >= 0).squeeze(1)  # chunks that follow one
    before = follows[chain].to(initial.device)
    here = chain.to(initial.device)
    depth = _depth(follows)
    answer = _Response(initial, response)
    order = _Order(follows, depth, width)
    turn, runs, sweeps, change, last = torch.arange(len(follows)), 0, 0, math.inf, math.inf
    ran_from = initial
    if max_sweeps == 0:
        walked = order.walk(run, initial, ends, 0)
        return initial, Sweeps(len(follows), 0, walked, walked, 0.0), answer.map
    while True:
        sweeps, runs = sweeps + 1, runs + len(turn)
        at = turn.to(initial.device)
        got = run(turn, initial[at]).to(initial)
        if sweeps > 1:
            answer.learn(initial[at] - ran_from[at], got - ends[at])
        ends[at] = got
        ran_from = initial.clone()
        off = torch.zeros_like(initial)
        off[here] = ends[before] - initial[here]
        added, bound = answer.carry(off, follows)
        size = bound.abs().amax(1)
        allowed = (2 * torch.finfo(initial.dtype).eps * initial.abs().amax(1)).clamp(min=tolerance)
        turn = torch.nonzero(~(size <= allowed).cpu()).squeeze(1)  # what is not finite, too
        last, change = change, float(size.max()) if len(size) else 0.0
        if not len(turn):
            return initial, Sweeps(len(follows), sweeps, runs, 0, change), answer.map
        if sweeps == max_sweeps or not order.pays(sweeps, len(turn), change, last, tolerance):
            walked = order.walk(run, initial, ends, int(depth[turn].min()))
            return initial, Sweeps(len(follows), sweeps, runs + walked, walked, 0.0), answer.map
        at = turn.to(initial.device)
        initial[at] += added[at]


class _Response:
    """How the end state of a chunk answers to its initial state: a linear map, the same for all chunks."""

    def __init__(self, like: Tensor, guess: Tensor | None) -> None:
        size = like.shape[1]
        self._inputs = torch.zeros(size, size, dtype=torch.float64)  # of some hundred numbers: the host is fast enough
        self._outputs = torch.zeros_like(self._inputs)
        self._known = guess is not None
        self.map = like.new_zeros(size, size) if guess is None else guess.to(like)
        self._largest = math.inf

    def learn(self, changed: Tensor, answered: Tensor) -> None:
        """Fit the map to changes (K, S) of initial states and of the end states that came of them."""
        norm = changed.norm(dim=1, keepdim=True)
        heard = norm > 16 * torch.finfo(changed.dtype).eps  # below it is rounding
        if not bool(heard.any()):
            return
        changed, answered = (torch.where(heard, one / norm, 0.0).cpu().double() for one in (changed, answered))
        self._inputs.mul_(_FADE).addmm_(changed.T, changed)
        self._outputs.mul_(_FADE).addmm_(changed.T, answered)
        ridge = 1e-4 * self._inputs.diagonal().mean() + 1e-30
        fitted = torch.linalg.solve(self._inputs + ridge * torch.eye(len(self.map), dtype=torch.float64), self._outputs)
        self.map, self._known = fitted.to(self.map), True

    def carry(self, off: Tensor, follows: Tensor) -> tuple[Tensor, Tensor]:
        """What changes (C, S) come to along the series: to hand on, and as a bound of what is still off.

        Where nothing is known of the map, or changes that grow from sweep to sweep show that it is wrong, end states
        are handed on as they are, and the bound is that of a model that forgets nothing.
        """
        largest = float(off.abs().max()) if len(off) else 0.0
        trusted, self._largest = self._known and largest <= self._largest, largest
        if trusted:
            added = _carried(off, self.map, follows)
            if bool(added.isfinite().all()):
                return added, added
        return off, _carried(off, torch.eye(len(self.map)).to(self.map), follows)


def _carried(off: Tensor, power: Tensor, follows: Tensor) -> Tensor:
    """(C, S) off_k + carried_(k-1) @ power, by doubling."""
    before = follows
    while bool((before >= 0).any()):
        chain = torch.nonzero(before >= 0).squeeze(1)
        off = off.index_add(0, chain.to(off.device), off[before[chain].to(off.device)] @ power)
        power = power @ power
        before = torch.where(before >= 0, before[before.clamp(min=0)], -1)
    return off


class _Order:
    """The chunks in order: whether it is cheaper to walk along the rest of them, and the walk."""

    def __init__(self, follows: Tensor, depth: Tensor, width: float) -> None:
        self._follows, self._depth, self._width = follows, depth, width
        self._chains = max(int((follows < 0).sum()), 1)

    def pays(self, sweeps: int, chunks: int, change: float, last: float, tolerance: float) -> bool:
        """Whether the sweeps still needed, at the rate of the last, cost less than the walk; in steps of one chunk."""
        if not math.isfinite(change):
            return False
        if sweeps < _JUDGE_FROM:
            return True
        left = int(self._depth.max()) + 1 - sweeps
        needed: float = left
        if change < last:
            needed = min(math.log(max(change / max(tolerance, 1e-12), 2.0)) / math.log(last / change), left)
        return needed * self._cost(chunks) <= left * self._cost(self._chains)

    def walk(self, run: Run, initial: Tensor, ends: Tensor, first: int) -> int:
        """Run the chunks from the `first` of each series on, one after another; how many were run."""
        walked = 0
        for depth in range(first, int(self._depth.max()) + 1):
            chunks = torch.nonzero(self._depth == depth).squeeze(1)
            at = chunks.to(initial.device)
            if depth:
                initial[at] = ends[self._follows[chunks].to(initial.device)]
            ends[at] = run(chunks, initial[at]).to(ends)
            walked += len(chunks)
        return walked

    def _cost(self, chunks: int) -> float:
        return 1 + chunks / self._width


def _checked(follows: Tensor) -> Tensor:
    chain = follows[follows >= 0]
    if bool((follows >= torch.arange(len(follows))).any()) or len(chain.unique()) < len(chain):
        raise MPTTError("A chunk follows one of a lower number, and no two chunks follow the same one.")
    return follows


def _depth(follows: Tensor) -> Tensor:
    """(C,) how many chunks come before each in its series."""
    depth, before = torch.zeros_like(follows), follows
    step = (follows >= 0).to(follows.dtype)
    while bool((before >= 0).any()):
        # Pointer doubling: `step` counts the chunks from each to `before`.
        there = before >= 0
        at = before.clamp(min=0)
        step = step + torch.where(there, step[at], 0)
        before = torch.where(there, before[at], -1)
    return depth + step
