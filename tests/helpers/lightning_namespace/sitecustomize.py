"""On the PYTHONPATH, what files of the tests import from `pytorch_lightning` is taken from `lightning.pytorch`.

So the tests, and the processes that they start, are somebody's code in the other namespace; mptt is imported as it is.
"""

import builtins
import importlib
from pathlib import Path
from typing import Any

TESTS = str(Path(__file__).parents[2])
as_written = builtins.__import__


def of_lightning(name: str, caller: Any = None, *others: Any, **named: Any) -> Any:
    """As `__import__`, in whose place it is."""
    if name.partition(".")[0] == "pytorch_lightning" and (caller or {}).get("__file__", "").startswith(TESTS):
        return importlib.import_module(name.replace("pytorch_lightning", "lightning.pytorch", 1))
    return as_written(name, caller, *others, **named)


builtins.__import__ = of_lightning
