"""`python -m mptt.experiments` is `mptt`."""

from mptt.experiments.cli import main

# Worker processes import this file too, under another name.
if __name__ == "__main__":
    main()
