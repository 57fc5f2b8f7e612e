"""One thread a process: small networks gain nothing from more, and processes side by side would fight for the cores."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch  # noqa: E402  after the environment is set

torch.set_num_threads(1)
