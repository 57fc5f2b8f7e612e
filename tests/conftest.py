"""One thread a process: small networks gain nothing from more, and processes side by side would fight for the cores.

Hypothesis times nothing: on a busy machine its deadline fails what is right.

Ctrl-C reaches the processes that tests start also where a shell runs the tests in the background, which ignores it.
"""

import os
import signal

os.environ.setdefault("OMP_NUM_THREADS", "1")
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import hypothesis
import torch

hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")
torch.set_num_threads(1)
