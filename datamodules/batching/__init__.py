"""From parts to batches: windows for training, stretches for evaluation, predictions put back on the calendar."""
