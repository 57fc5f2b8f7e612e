"""A long fit takes as much at its end as after its beginning: memory, handles, threads, Python objects."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import longrun
import pytest

EPOCHS = {"mptt": 2000} | dict.fromkeys([name for name in longrun.RUNS if name != "mptt"], 300)
OBJECTS = 50  # of some 500,000; a leak of one an epoch is more


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="handles are counted as POSIX has them")
@pytest.mark.parametrize(("name", "epochs"), EPOCHS.items(), ids=EPOCHS)
def test_a_long_fit_takes_no_more_and_more(name: str, epochs: int, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", longrun.__file__, name, str(epochs), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen[-1]["epoch"] == epochs
    warm = seen[1:]  # after a tenth of the epochs
    print(name, warm[0], warm[-1], sep="\n")
    for what in ("handles", "threads", "processes"):
        assert len({one[what] for one in warm}) == 1, (what, warm)
    assert max(one["mib"] for one in warm) <= 1.05 * warm[0]["mib"], warm
    assert max(one["objects"] for one in warm) <= warm[0]["objects"] + OBJECTS, warm
