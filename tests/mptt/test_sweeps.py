"""Chunks run side by side give what a walk along the series gives."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mptt import MPTTError
from mptt.sweeps import Sweeps, sweep

Step = Callable[[Tensor, Tensor], Tensor]


def chained(*lengths: int) -> Tensor:
    """`follows` of series of so many chunks, one after another."""
    follows, begin = [], 0
    for length in lengths:
        follows += [-1, *range(begin, begin + length - 1)]
        begin += length
    return torch.tensor(follows)


def walked(step: Step, first: Tensor, follows: Tensor) -> Tensor:
    """The initial states, chunk by chunk: the oracle."""
    states = first.clone()
    for chunk, before in enumerate(follows.tolist()):
        if before >= 0:
            states[chunk] = step(torch.tensor([before]), states[before : before + 1])[0]
    return states


class Watched:
    """A step that keeps what it was called with."""

    def __init__(self, step: Step) -> None:
        self.step, self.calls = step, []

    def __call__(self, chunks: Tensor, states: Tensor) -> Tensor:
        self.calls.append((chunks.tolist(), states.clone()))
        return self.step(chunks, states)


def forgetting(chunks: int, size: int, memory: float, seed: int = 0) -> Step:
    """Not linear, and another one in each chunk; a change of the state shrinks by `memory` at least."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(chunks, size, size, generator=generator, dtype=torch.float64)
    weight = memory * weight / torch.linalg.matrix_norm(weight, ord=2, keepdim=True)
    bias = torch.randn(chunks, size, generator=generator, dtype=torch.float64)
    return lambda chunk, state: torch.tanh(torch.einsum("ks,kst->kt", state, weight[chunk]) + bias[chunk])


@settings(deadline=None, max_examples=60)
@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=4),
    memory=st.sampled_from([0.0, 0.3, 0.8, 1.0]),
    seed=st.integers(0, 99),
    most=st.sampled_from([None, 0, 1, 2, 7]),
    width=st.sampled_from([0.5, 8.0, math.inf]),
)
def test_states_are_those_of_a_walk(
    lengths: list[int], memory: float, seed: int, most: int | None, width: float
) -> None:
    follows = chained(*lengths)
    step = forgetting(len(follows), 3, memory, seed)
    first = torch.randn(len(follows), 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    watched = Watched(step)
    states, done, _ = sweep(watched, first, follows, tolerance=1e-9, max_sweeps=most, width=width)
    expected = walked(step, torch.where(follows[:, None] < 0, first, 0.0), follows)
    # Without an end to its memory a model adds up what is left of each chunk.
    assert torch.allclose(states, expected, rtol=0, atol=1e-9 * len(follows))
    assert done.runs == sum(len(chunks) for chunks, _ in watched.calls)
    assert done.chunks == len(follows)
    assert most is None or done.sweeps <= most


def test_the_kth_sweep_is_exact_for_the_first_k_chunks() -> None:
    follows = chained(12)
    step = forgetting(12, 4, 1.0)
    watched = Watched(step)
    sweep(watched, torch.zeros(12, 4, dtype=torch.float64), follows, tolerance=0.0, max_sweeps=12)
    expected = walked(step, torch.zeros(12, 4, dtype=torch.float64), follows)
    ran_from = torch.zeros(12, 4, dtype=torch.float64)
    for sweeps, (chunks, states) in enumerate(watched.calls[:12]):
        ran_from[chunks] = states
        assert torch.allclose(ran_from[: sweeps + 1], expected[: sweeps + 1], rtol=0, atol=1e-12), sweeps


def test_only_chunks_whose_initial_state_changes_run_again() -> None:
    follows = chained(5, 3)
    watched = Watched(forgetting(8, 2, 0.0))  # forgets all: the second sweep is right
    sweep(watched, torch.zeros(8, 2, dtype=torch.float64), follows)
    assert [chunks for chunks, _ in watched.calls] == [[0, 1, 2, 3, 4, 5, 6, 7], [1, 2, 3, 4, 6, 7]]


def test_from_the_states_of_the_last_time_one_sweep_is_enough() -> None:
    follows, step = chained(20), forgetting(20, 3, 0.9)
    zeros = torch.zeros(20, 3, dtype=torch.float64)
    states, cold, response = sweep(step, zeros, follows)
    again, warm, _ = sweep(step, states, follows, response=response)
    assert cold.sweeps > 3
    assert (warm.sweeps, warm.runs) == (1, 20)
    assert torch.equal(again, states)


def test_a_response_that_is_known_saves_sweeps() -> None:
    rain = torch.randn(40, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    follows, zeros = chained(40), torch.zeros(40, 3, dtype=torch.float64)

    def step(chunk: Tensor, state: Tensor) -> Tensor:
        return torch.tanh(0.95 * state + 0.1 * rain[chunk])

    _, cold, response = sweep(step, zeros, follows)
    guess = walked(step, zeros, follows) + 0.01 * rain.flip(0)
    guess[0] = 0
    assert sweep(step, guess, follows, response=response)[1].runs < sweep(step, guess, follows)[1].runs < cold.runs


def test_an_integrator_never_forgets_and_is_exact() -> None:
    rain = torch.randn(60, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    zeros = torch.zeros(60, 5, dtype=torch.float64)
    for tolerance in (1e-5, 1e-9):
        states, done, _ = sweep(lambda k, s: s + rain[k], zeros, chained(60), tolerance=tolerance)
        assert torch.allclose(states[1:], rain.cumsum(0)[:-1], rtol=0, atol=2 * tolerance)
        assert done.passes < 10  # that every end state answers alike is found out


def test_what_never_forgets_and_answers_differently_each_time_is_walked_along() -> None:
    angle = torch.randn(80, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def step(chunk: Tensor, state: Tensor) -> Tensor:
        sin, cos = angle[chunk].sin(), angle[chunk].cos()
        x, y = state.T
        return torch.stack([cos * x - sin * y + 1, sin * x + cos * y], dim=1)

    zeros = torch.zeros(80, 2, dtype=torch.float64)
    states, done, _ = sweep(step, zeros, chained(80), width=28)
    assert torch.allclose(states, walked(step, zeros, chained(80)), rtol=0, atol=1e-9)
    assert done.in_order > 70
    assert done.runs < 6 * 80


def test_what_is_not_finite_is_handed_on_as_it_is() -> None:
    def step(chunks: Tensor, states: Tensor) -> Tensor:
        return torch.where((chunks == 3).unsqueeze(1), torch.nan, 0.5 * states + 1)

    states, _, _ = sweep(step, torch.zeros(6, 1), chained(6))
    assert states[:4].flatten().tolist() == [0, 1, 1.5, 1.75]
    assert states[4:].isnan().all()


@pytest.mark.parametrize(("most", "sweeps", "in_order"), [(0, 0, 10), (2, 2, 8)])
def test_after_the_most_sweeps_the_rest_is_run_in_order(most: int, sweeps: int, in_order: int) -> None:
    step = forgetting(10, 2, 1.0)
    zeros = torch.zeros(10, 2, dtype=torch.float64)
    states, done, _ = sweep(step, zeros, chained(10), max_sweeps=most)
    assert torch.allclose(states, walked(step, zeros, chained(10)), rtol=0, atol=1e-12)
    assert (done.sweeps, done.in_order, done.largest_change) == (sweeps, in_order, 0.0)


def test_sweeps_go_on_only_where_they_pay() -> None:
    follows, step = chained(100), forgetting(100, 2, 0.97)
    zeros = torch.zeros(100, 2, dtype=torch.float64)
    narrow, wide = (sweep(step, zeros, follows, width=width)[1] for width in (0.1, 1e6))
    assert narrow.in_order > 0
    assert wide.in_order == 0
    assert wide.largest_change <= 1e-5


def test_the_tolerance_holds_for_what_small_changes_add_up_to() -> None:
    # Each chunk hands on 1e-6 more than it was run from: less than the tolerance, 2e-4 after 200 of them.
    states, _, _ = sweep(lambda k, s: s + 1e-6, torch.zeros(200, 1, dtype=torch.float64), chained(200))
    assert states[-1].item() == pytest.approx(1.99e-4, abs=1e-5)


def test_guesses_are_left_alone() -> None:
    guess = torch.zeros(5, 2, dtype=torch.float64)
    sweep(forgetting(5, 2, 0.9), guess, chained(5))
    assert not guess.any()


@pytest.mark.parametrize("follows", [[1, -1], [0], [-1, 0, 0]], ids=["later", "itself", "both the same"])
def test_chunks_in_no_order_are_refused(follows: list[int]) -> None:
    with pytest.raises(MPTTError, match="follows one of a lower number, and no two"):
        sweep(lambda k, s: s, torch.zeros(len(follows), 1), torch.tensor(follows))


def test_what_was_done_in_two_batches_adds_up() -> None:
    both = Sweeps(10, 3, 20, 0, 1e-6) + Sweeps(5, 4, 10, 2, 0.0)
    assert both == Sweeps(15, 4, 30, 2, 1e-6)
    assert both.passes == 2
