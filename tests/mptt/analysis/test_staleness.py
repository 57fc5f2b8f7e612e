from __future__ import annotations

import pytest
import torch

from mptt.analysis.staleness import TrueMessages, staleness


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values).unsqueeze(1)


def test_what_older_writes_keep_fades_as_the_filter_says() -> None:
    true = TrueMessages(column(1.0, 2.0), torch.tensor([False, True]), delta=2.0)
    assert true.kept.squeeze(1).tolist() == [0.0, 2.0]  # no message yet; and one that is taken for true
    true.follow(column(3.0, 2.0), [torch.tensor([2, 0])], [False])
    # Middle (2, 2): (2*0 + 2*2)/(2 + 2); nobody wrote to the second.
    assert true.kept.squeeze(1).tolist() == [1.0, 2.0]


def test_with_delta_zero_and_writes_only_the_last_epoch_counts() -> None:
    true = TrueMessages(column(1.0, 5.0), torch.tensor([True, True]), delta=0.0)
    true.follow(column(3.0, 5.0), [torch.tensor([1, 0])], [False])
    assert true.kept.squeeze(1).tolist() == [2.0, 5.0]
    assert staleness(column(2.0, 5.0), true)["staleness_age"] == 0


def test_epochs_between_measurements_lie_on_a_line() -> None:
    often, seldom = (TrueMessages(column(0.0, 1.0), torch.tensor([False, False]), delta=1.0) for _ in range(2))
    counts = [torch.tensor(one) for one in ([1, 2], [0, 3], [2, 0], [1, 1])]
    links = [False, False, True, False]
    for nth, (count, link) in enumerate(zip(counts, links, strict=True)):
        often.follow(column(2.0 * (nth + 1), 1.0 - nth - 1), [count], [link])
    seldom.follow(column(8.0, -3.0), counts, links)
    for name in ("kept", "middle", "states"):
        assert torch.allclose(getattr(often, name), getattr(seldom, name)), name


def test_a_link_sets_what_messages_say_to_the_states_before_the_epoch() -> None:
    true = TrueMessages(column(4.0, 6.0), torch.tensor([False, False]), delta=1.0)
    true.follow(column(8.0, 6.0), [torch.tensor([1, 0])], [True])
    assert true.kept.squeeze(1).tolist() == [(4.0 + 6.0) / 2, 6.0]


def test_parts_add_up_as_vectors_and_one_is_a_random_other_window() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second, messages = (torch.randn(2000, 3, generator=generator) for _ in range(3))
    true = TrueMessages(first, torch.ones(2000, dtype=torch.bool), delta=1.0)
    true.follow(second, [torch.full((2000,), 2)], [False])
    found = staleness(messages, true)
    # Messages that are states of another window: drawn from the same distribution, on their own.
    assert found["staleness"] == pytest.approx(1.0, abs=0.03)
    parts = (messages - true.kept) + (true.kept - true.middle) + (true.middle - true.states)
    assert torch.allclose(parts, messages - true.states, atol=1e-6)
    one = torch.cat([found[f"staleness_{name}"].reshape(1) for name in ("written", "age", "drift")])
    # kept = (first + 2 middle)/3 and middle = (first + second)/2.
    spread = 6**0.5
    by_hand = [(3 * (1 + 4 / 9 + 1 / 9)) ** 0.5, (3 * (2 / 36)) ** 0.5, (3 * 2 / 4) ** 0.5]
    assert (one * spread).tolist() == pytest.approx(by_hand, rel=0.04)


def test_messages_that_are_true_are_not_stale() -> None:
    true = TrueMessages(column(1.0, 2.0, 4.0), torch.ones(3, dtype=torch.bool), delta=1.0)
    found = staleness(column(1.0, 2.0, 4.0), true)
    # Pairs are 1, 3 and 2 apart.
    assert found.pop("staleness_zero") == pytest.approx((21 / 3) ** 0.5 / (14 / 3) ** 0.5)
    assert {float(value) for value in found.values()} == {0.0}
