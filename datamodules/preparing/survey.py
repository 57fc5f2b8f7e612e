"""What the checks and the scalers need to know of all sites, collected from blocks of them in small arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mptt.datamodules.preparing.checks import Mask, Values
from mptt.datamodules.preparing.flat import FlatSeries, find_records
from mptt.datamodules.preparing.parts import Part
from mptt.datamodules.preparing.scaling import Moments
from mptt.windows import Int64Array


@dataclass
class Places:
    """Where something is found.

    Attributes:
        count: (sites,) at how many steps.
        first: (sites,) the first of them on the common time axis; 0 where there is none.
    """

    count: Int64Array
    first: Int64Array

    @classmethod
    def nowhere(cls, sites: int) -> Places:
        """Not yet looked."""
        return cls(np.zeros(sites, np.int64), np.zeros(sites, np.int64))

    def put(self, sites: slice, found: Mask) -> None:
        """Of these sites, found (sites, time)."""
        self.count[sites], self.first[sites] = found.sum(axis=1), found.argmax(axis=1)


class RecordSurvey:
    """Where each site's record lies, gaps of inputs in it, infinite targets.

    Args:
        sites: how many there are.
        inputs: their names.
        targets: their names.
        anchors: the inputs that say where a record begins and ends; by default all.

    Attributes:
        first: (sites,) first step of each site's record on the common time axis.
        length: (sites,) its steps, 0 of a site without any input.
        gaps: of each input, missing or infinite values in the record.
        infinite: of each target.
    """

    def __init__(
        self, sites: int, inputs: Sequence[str], targets: Sequence[str], anchors: Sequence[str] | None = None
    ) -> None:
        self.anchors = list(inputs if anchors is None else anchors)
        self.first, self.length = np.zeros(sites, np.int64), np.zeros(sites, np.int64)
        self.gaps = {name: Places.nowhere(sites) for name in inputs}
        self.infinite = {name: Places.nowhere(sites) for name in targets}

    @property
    def last(self) -> Int64Array:
        """(sites,) the step after each record's last."""
        return self.first + self.length

    def look(self, sites: slice, inputs: Values, targets: Values) -> Mask:
        """Look at a block of sites; returns whether each step is in the record (site, time)."""
        recorded = find_records({name: inputs[name] for name in self.anchors})
        self.first[sites], self.length[sites] = recorded.argmax(axis=1), recorded.sum(axis=1)
        for name, values in inputs.items():
            self.gaps[name].put(sites, recorded & ~np.isfinite(values))
        for name, values in targets.items():
            self.infinite[name].put(sites, np.isinf(values))
        return recorded


class PartSurvey:
    """What the parts hold: which targets have values where, and the moments of the training part.

    Args:
        parts: "train", "validation" and "test".
        inputs: how many there are.
        targets: how many there are.
        warmup: steps at the start of validation and test that are not scored.
        by_site: whether to take the moments of targets of each training stretch, too.

    Attributes:
        known: of each part, (n, K) whether each stretch has a value of each target after the warm-up.
        inputs, targets: moments of the training part, physical values.
        targets_of_site: by number of the site, where it has a training stretch.
    """

    def __init__(
        self, parts: Mapping[str, Part], inputs: int, targets: int, warmup: int, by_site: bool = False
    ) -> None:
        self.parts, self.warmup = parts, warmup
        self.known = {label: np.zeros((len(part), targets), dtype=bool) for label, part in parts.items()}
        self.inputs, self.targets = Moments.nothing(inputs), Moments.nothing(targets)
        self.targets_of_site: dict[int, Moments] = {}
        self._by_site = by_site

    def look(self, series: FlatSeries) -> None:
        """Look at the physical series of those sites that are held."""
        for label, part in self.parts.items():
            held = series.offset[part.site] >= 0
            self.known[label][held] = _known(series, part.choose(held), 0 if label == "train" else self.warmup)
        training = series.inside(self.parts["train"])
        self.inputs = self.inputs.merge(Moments.of(series.inputs, training))
        self.targets = self.targets.merge(Moments.of(series.targets, training))
        if self._by_site:
            stretches = self.parts["train"]
            stretches = stretches.choose(series.offset[stretches.site] >= 0)
            for site, row, length in zip(stretches.site, series.rows(stretches), stretches.length, strict=True):
                self.targets_of_site[int(site)] = Moments.of(series.targets[row : row + length])


def _known(series: FlatSeries, part: Part, skipped: int) -> Mask:
    known = np.zeros((len(part), series.observed.shape[1]), dtype=bool)
    for nth, (row, length) in enumerate(zip(series.rows(part).tolist(), part.length.tolist(), strict=True)):
        known[nth] = series.observed[row + min(skipped, length) : row + length].any(0).numpy()
    return known
