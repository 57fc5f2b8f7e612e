"""The method once more, slowly: loops and dictionaries, written from the definitions and sharing no code with mptt."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from hypothesis import strategies as st

Window = tuple[int, int, int]  # site, start, length
Link = tuple[int, int, int]  # row of the batch, window written to, position in the row's window


def slow_cut(lengths: Sequence[int], window: int, stride: int) -> list[Window]:
    """The windows of every series, one each `stride` steps, and one that ends at the last step."""
    windows: list[Window] = []
    for site, steps in enumerate(lengths):
        start = 0
        here: list[Window] = []
        while start + window <= steps:
            here.append((site, start, window))
            start += stride
        if here and here[-1][1] + window < steps:
            here.append((site, steps - window, window))
        windows += here
    return windows


def slow_links(windows: Sequence[Window], stretches: Iterable[Window]) -> set[Link]:
    """Every (row, window, position) where a stretch passes the initial state of a window, one pair at a time."""
    found = set()
    for row, (site_w, start_w, length_w) in enumerate(stretches):
        for v, (site_v, start_v, _) in enumerate(windows):
            if site_w == site_v and start_w < start_v <= start_w + length_w:
                found.add((row, v, start_v - start_w - 1))
    return found


class DictionaryMemory:
    """The three policies, a dictionary entry a window, the writes of an epoch kept one by one.

    States that are not finite are not kept, but counted for the window that passed them.
    """

    def __init__(self, windows: Sequence[Window], state_size: int, delta: float) -> None:
        self.windows = list(windows)
        self.delta = delta
        self.mu = {v: np.zeros(state_size) for v in range(len(self.windows))}
        self.writes: dict[int, list[np.ndarray]] = {v: [] for v in self.mu}
        self.refused = dict.fromkeys(self.mu, 0)  # in this epoch
        self.refused_before = 0

    def read(self, v: int) -> np.ndarray:
        count = len(self.writes[v])
        if count == 0:
            return self.mu[v].copy()
        return (self.delta * self.mu[v] + count * self.mean(v)) / (self.delta + count)

    def mean(self, v: int) -> np.ndarray:
        return sum(self.writes[v]) / len(self.writes[v]) if self.writes[v] else np.zeros_like(self.mu[v])

    def write(self, ids: Sequence[int], states: np.ndarray) -> None:
        stretches = [self.windows[w] for w in ids]
        for row, v, position in slow_links(self.windows, stretches):
            if np.isfinite(states[row, position]).all():
                self.writes[v].append(states[row, position].astype(float))
            else:
                self.refused[ids[row]] += 1

    def link(self, v: int, state: np.ndarray) -> None:
        self.mu[v], self.writes[v] = state.astype(float), []

    def propagate(self) -> None:
        self.mu = {v: self.read(v) for v in self.mu}
        self.writes = {v: [] for v in self.mu}
        self.refused_before += sum(self.refused.values())
        self.refused = dict.fromkeys(self.mu, 0)


@st.composite
def window_tables(draw: st.DrawFn, max_windows: int = 14) -> list[Window]:
    """Windows of any start and length, in any order, repeats among them, of sites with any numbers."""
    sites = st.sampled_from([3, 0, 1_000_000, -4])
    window = st.tuples(sites, st.integers(0, 18), st.integers(1, 12))
    return draw(st.lists(window, min_size=1, max_size=max_windows))
