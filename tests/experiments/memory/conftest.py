from __future__ import annotations

from pathlib import Path

import pytest

from mptt.experiments.cli import main


@pytest.fixture(scope="session")
def trained(fit_words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of two epochs with messages, on a basin of 14 years."""
    folder = tmp_path_factory.mktemp("memory") / "trained"
    main([*fit_words, "--trainer.max_epochs", "2", "--run_dir", str(folder)])
    return folder
