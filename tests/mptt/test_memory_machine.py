"""Random lives of a state-map and of a memory of two layers, each step compared with a dictionary."""

from __future__ import annotations

import copy
import io
from typing import Any

import numpy as np
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule
from oracle import DictionaryMemory, Window, window_tables

from mptt import KeyMap, StateMap, WindowIndex
from mptt.callbacks.memory import Memory
from mptt.offload import Offload
from mptt.storage import Storage

SIZES = {"encoder": 2, "decoder": 1}
SIZE = sum(SIZES.values())
CPU = torch.device("cpu")
# What rounding may come to: values up to 1, rounded in each step of a life.
TOLERANCE = {torch.float64: 1e-13, torch.float32: 3e-6, torch.bfloat16: 0.06}
STEPS = 25
BAD = [np.nan, np.inf, -np.inf]
numbers = st.integers(0, 2**32 - 1)


class Lives(RuleBasedStateMachine):
    """A StateMap of all units and a Memory of two layers go through the same; the dictionary says what is right."""

    checkpoints = Bundle("checkpoints")

    @initialize(table=window_tables(max_windows=8), delta=st.sampled_from([0.0, 1.0, 0.5, 7.0]))
    def begin(self, table: list[Window], delta: float) -> None:
        self.table, self.delta, self.epoch = table, delta, 0
        self.windows = WindowIndex(*np.array(table).T)
        self.keymap = KeyMap(self.windows)
        self.oracle = DictionaryMemory(table, SIZE, delta)
        self.tolerance = 0.0
        self.make(torch.float64, "cpu")

    def make(self, dtype: torch.dtype, where: str) -> None:
        storage = Storage(where)
        self.map = StateMap(self.windows, SIZE, self.delta, storage, dtype)
        self.memory = Memory(self.windows, SIZES, self.delta, storage, dtype, CPU)
        # What was rounded once is not made whole by more digits.
        self.tolerance = max(self.tolerance, TOLERANCE[dtype])

    def ids(self, data: Any) -> list[int]:
        return data.draw(st.lists(st.integers(0, len(self.table) - 1), min_size=1, max_size=5), "ids")

    @rule(data=st.data(), seed=numbers, bad=st.sampled_from([0.0, 0.0, 0.05, 1.0]), batch=st.integers(0, 3))
    def write(self, data: Any, seed: int, bad: float, batch: int) -> None:
        ids, random = self.ids(data), np.random.default_rng(seed)
        states = random.uniform(-1, 1, size=(len(ids), 12, SIZE))
        states[random.random(states.shape) < bad] = BAD[seed % 3]
        tensor = torch.from_numpy(states)
        row, target, position = self.keymap.links(ids)
        self.map.write(torch.tensor(ids), tensor)
        self.memory.write_rows(target, tensor[row, position], torch.tensor(ids)[row], batch)
        self.oracle.write(ids, states)

    @rule(data=st.data())
    def read(self, data: Any) -> None:
        ids = self.ids(data)
        expected = np.stack([self.oracle.read(v) for v in ids])
        for found in (self.map.read(ids), self.memory.read_rows(torch.tensor(ids))):
            np.testing.assert_allclose(found.double().numpy(), expected, rtol=0, atol=self.tolerance)

    @rule()
    def propagate(self) -> None:
        self.epoch += 1
        self.map.propagate()
        self.memory.close_epochs_before(self.epoch)
        self.memory.close_epochs_before(self.epoch)  # a second time changes nothing
        self.oracle.propagate()

    @rule(data=st.data(), seed=numbers)
    def link(self, data: Any, seed: int) -> None:
        ids = sorted(set(self.ids(data)))
        states = np.random.default_rng(seed).uniform(-1, 1, size=(len(ids), SIZE))
        for one in (self.map, self.memory):
            one.link(torch.tensor(ids), torch.from_numpy(states))
        for v, state in zip(ids, states, strict=True):
            self.oracle.link(v, state)

    @rule()
    def file_states_later_from_now_on(self) -> None:
        assert self.memory.maps  # what is on its way arrives
        self.memory._offload = Offload(CPU)

    @rule(target=checkpoints)
    def save(self) -> Any:
        return self.saved(), copy.deepcopy(self.oracle), self.epoch, self.tolerance

    @rule(checkpoint=checkpoints)
    def go_back_to(self, checkpoint: Any) -> None:
        content, oracle, self.epoch, tolerance = checkpoint
        self.oracle, self.tolerance = copy.deepcopy(oracle), max(tolerance, TOLERANCE[self.map.mu.dtype])
        self.load(content)

    @rule(dtype=st.sampled_from(list(TOLERANCE)), where=st.sampled_from(["cpu", "disk"]))
    def move(self, dtype: torch.dtype, where: str) -> None:
        content = self.saved()
        self.make(dtype, where)
        self.load(content)

    def saved(self) -> bytes:
        file = io.BytesIO()
        torch.save({"map": self.map.state_dict(), "memory": self.memory.state_dict()}, file)
        return file.getvalue()

    def load(self, content: bytes) -> None:
        state = torch.load(io.BytesIO(content), weights_only=True)
        self.map.load_state_dict(state["map"])
        self.memory.load_state_dict(state["memory"])

    @invariant()
    def the_tables_are_those_of_the_dictionary(self) -> None:
        counts = [len(self.oracle.writes[v]) for v in self.oracle.mu]
        mu = np.stack(list(self.oracle.mu.values()))
        mean = np.stack([self.oracle.mean(v) for v in self.oracle.mu])
        maps = self.memory.maps.values()
        for found, expected in (
            (self.map.mu, mu),
            (torch.cat([one.mu for one in maps], dim=1), mu),
            (self.map.mean, mean),
            (torch.cat([one.mean for one in maps], dim=1), mean),
        ):
            np.testing.assert_allclose(found.double().numpy(), expected, rtol=0, atol=self.tolerance)
        assert all(one.count.tolist() == counts for one in (self.map, *maps))
        assert self.memory.refused.count.tolist() == list(self.oracle.refused.values())
        total = self.oracle.refused_before + sum(self.oracle.refused.values())
        assert self.map.refused == self.memory.refused.total == total


Lives.TestCase.settings = settings(
    derandomize=True,
    max_examples=30,
    stateful_step_count=STEPS,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestLives = Lives.TestCase
