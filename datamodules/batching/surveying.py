"""What the parts hold, looked at once before the first batch: checked, and what is odd in it said."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import pandas as pd
import torch

from mptt.datamodules.batching.batches import check_last_steps, observed_at_ends
from mptt.datamodules.batching.lagged import FilledLags, warn_of_filled
from mptt.datamodules.preparing.checks import check_targets
from mptt.datamodules.preparing.parts import Part
from mptt.datamodules.preparing.records import Records
from mptt.datamodules.preparing.survey import PartSurvey
from mptt.windows import WindowIndex


def survey_parts(
    records: Records,
    parts: Mapping[str, Part],
    windows: WindowIndex,
    sites: Sequence[str],
    time: pd.Index,
    *,
    warmup: int,
    last: int | None,
    lagged: bool,
    by_site: bool,
    unscored: Collection[str] = (),
) -> PartSurvey:
    """Look at all records, a piece at a time.

    Args:
        records: physical.
        parts: "train", "validation" and "test".
        windows: of the training part.
        sites: names, by number.
        time: the common time axis.
        warmup: steps at the start of validation and test that are not scored.
        last: steps at the end of each training window that count; None: all.
        lagged: whether lagged targets are inputs.
        by_site: whether the scalers need the moments of each site.
        unscored: parts that may be without any target.

    Raises:
        MPTTError: a target without value in a part, or in the last steps of all windows; an infinite one.
    """
    inputs, targets = records.preparation.columns, records.preparation.targets
    survey = PartSurvey(parts, len(inputs), len(targets), warmup, by_site)
    lags, at_ends = FilledLags(), torch.zeros(len(targets), dtype=torch.bool)
    for series in records.pieces():
        survey.look(series)
        if last is not None:
            at_ends |= observed_at_ends(series, parts["train"], windows, last)
        if lagged:
            lags.look(series, parts.values())
    check_targets(records.survey, survey.known, parts, warmup, targets, sites, unscored)
    if last is not None:
        check_last_steps(at_ends, last, targets)
    warn_of_filled(lags, sites, time)
    return survey
