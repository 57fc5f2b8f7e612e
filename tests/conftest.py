"""One thread a process: small networks gain nothing from more, and processes side by side would fight for the cores."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

torch.set_num_threads(1)
