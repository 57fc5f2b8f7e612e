"""`python -m mptt.experiments.bench`."""

import sys

from mptt.experiments.bench.main import main

# Sections start processes, which import this file anew.
if __name__ == "__main__":
    sys.exit(main())
