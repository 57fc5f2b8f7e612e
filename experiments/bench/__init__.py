"""What a step costs, an epoch, a fit, and data larger than memory: `python -m mptt.experiments.bench`."""
