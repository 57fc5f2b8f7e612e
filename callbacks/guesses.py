"""Where parallel evaluation begins: the states that the last pass over the same stretches found."""

from __future__ import annotations

from typing import Any

import numpy as np

from mptt.inference import Guess
from mptt.windows import Int64Array

Key = tuple[str, int, int]  # the pass, the number of its loader, the number of the batch


class Guesses:
    """The guesses of each evaluation batch, by recurrent layer; those of a batch that has changed are forgotten."""

    def __init__(self) -> None:
        self._kept: dict[Key, tuple[Int64Array, dict[str, Guess]]] = {}

    def of(self, key: Key, *stretch: Int64Array) -> dict[str, Guess]:
        """Those of a batch with this site, start and length, to be read and replaced; at first none."""
        rows = np.stack(stretch)
        kept = self._kept.get(key)
        if kept is None or not np.array_equal(kept[0], rows):
            kept = self._kept[key] = rows, {}
        return kept[1]

    def state_dict(self) -> list[dict[str, Any]]:
        """Tensors and plain values."""
        return [
            {
                "key": list(key),
                "rows": rows.tolist(),
                "guesses": {name: dict(vars(one)) for name, one in guesses.items()},
            }
            for key, (rows, guesses) in self._kept.items()
            if guesses
        ]

    def load_state_dict(self, state: list[dict[str, Any]]) -> None:
        """Take over what was saved."""
        self._kept = {
            tuple(one["key"]): (
                np.array(one["rows"], dtype=np.int64),
                {name: Guess(**guess) for name, guess in one["guesses"].items()},
            )
            for one in state
        }
