"""Runs of the authors' own script, recorded step by step, replayed with StateMap; see the README of the vectors."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mptt import StateMap, WindowIndex
from mptt.inference import reconstruct_linkage
from mptt.recurrent import flatten_state, run

DATA = Path(__file__).parents[1] / "data"
RUNS = ["mptt_gru_delta1", "mptt_gru_delta0_disjoint", "mptt_gru_linkage"]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """The recorded runs had one; the order of sums depends on it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Model(nn.Module):
    """The authors' model: names as in the files."""

    def __init__(self, parameters):
        super().__init__()
        size = parameters["gru.weight_hh_l0"].shape[1]
        self.gru = nn.GRU(parameters["gru.weight_ih_l0"].shape[1], size, batch_first=True)
        self.densor = nn.Linear(size, 1)
        self.load_state_dict(parameters)


def parameters_of(record, which):
    return {name.split("/")[1]: torch.from_numpy(record[name]) for name in record if name.startswith(f"{which}/")}


def masked_mse(prediction, target):
    return ((prediction - target) ** 2).sum() / (target.numel() + 1)


def full_outputs(model, memory, ids, inputs, initial):
    """The way of explicit mode: the states of every step go to `write`."""
    states, _ = model.gru(inputs, initial.unsqueeze(0))
    return states, lambda: memory.write(ids, states)


def caught_states(model, memory, ids, inputs, initial):
    """The way of drop-in mode: only the states that are asked for are caught and filed."""
    row, target, position = memory.keymap.links(ids)
    output, _, caught = run(model.gru, inputs, initial, row, position)
    return output, lambda: memory.write_rows(target, caught)


def reconstruct(model, memory, series, chunk):
    starts = range(0, len(series), chunk)
    stretches = [(np.array([0]), np.array([a]), min(chunk, len(series) - a)) for a in starts]
    fed = iter(series.split(chunk))

    @torch.no_grad()
    def advance(initial, links):
        row, _, position = links
        _, final, caught = run(model.gru, next(fed).unsqueeze(0), initial, row, position)
        return caught, flatten_state(final)

    return reconstruct_linkage(memory, memory.keymap, stretches, advance)


@pytest.mark.parametrize("forward", [full_outputs, caught_states])
@pytest.mark.parametrize("name", RUNS)
def test_replay_equals_the_recorded_run(name, forward):
    with np.load(DATA / f"{name}.npz") as file:
        record = dict(file)
    part = {key: torch.from_numpy(record[key]) for key in record if key.startswith(("x_", "y_"))}
    starts, steps, batch = record["starts"], int(record["seq_len"]), int(record["batch_size"])
    assert starts[-1] + steps == len(part["x_train"])
    windows = WindowIndex(np.zeros(len(starts), np.int64), starts, steps)
    row_of = {start: row for row, start in enumerate(record["key"].tolist())}
    rows = [row_of[start] for start in starts.tolist()]  # of the recorded arrays, in window order

    model = Model(parameters_of(record, "init"))
    optimizer = torch.optim.Adam(model.parameters(), lr=float(record["lr"]))
    memory = StateMap(windows, model.gru.hidden_size, delta=float(record["delta"]))
    first_read = int(record["zero_init_epochs"])
    first_write = first_read if "linkage" in name else 0
    within = np.arange(steps)

    def same(mine, recorded, what, tolerance=1e-5):
        np.testing.assert_allclose(mine, recorded, rtol=0, atol=tolerance, err_msg=f"{what} after epoch {epoch}")

    for epoch, order in enumerate(record["perm"]):
        if "linkage" in name and epoch == first_read:
            assert reconstruct(model, memory, part["x_train"], chunk=500) == (starts > 0).sum()
        for begin in range(0, len(order), batch):
            ids = torch.from_numpy(order[begin : begin + batch])
            steps_of_rows = torch.from_numpy(starts[ids][:, None] + within)
            initial = memory.read(ids)
            if epoch < first_read:
                initial = torch.zeros_like(initial)
            output, write = forward(model, memory, ids, part["x_train"][steps_of_rows], initial)
            loss = masked_mse(model.densor(output), part["y_train"][steps_of_rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if epoch >= first_write:
                write()

        assert memory.count.tolist() == record["pre/c"][epoch][rows].tolist()
        same(memory.mean, record["pre/h"][epoch][rows], "mean")
        same(memory.mu, record["pre/mu"][epoch][rows], "mu")
        memory.propagate()
        assert memory.count.tolist() == record["post/c"][epoch][rows].tolist()
        same(memory.mean, record["post/h"][epoch][rows], "mean, propagated,")
        same(memory.mu, record["post/mu"][epoch][rows], "mu, propagated,")
        for which in ("train", "valid", "test"):
            with torch.no_grad():
                prediction = model.densor(model.gru(part[f"x_{which}"].unsqueeze(0))[0])[0]
            same(masked_mse(prediction, part[f"y_{which}"]), record[f"{which}_mse"][epoch], f"{which} loss")

    assert memory.refused == 0
    assert memory.mu.abs().max() > 0.1
    for key, value in parameters_of(record, "final").items():
        same(model.state_dict()[key], value, key, tolerance=1e-5)
