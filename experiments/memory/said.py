"""What was found of units and of steps, in sentences."""

from __future__ import annotations

import numpy as np
import pandas as pd


def units_said(units: pd.DataFrame, scores: pd.DataFrame, horizon: int, per: str) -> str:
    """How fast the units are, which matters most, and what is left without the slowest quarter.

    Args:
        units: ranked, with `nse_drop`.
        scores: as of `scores_in_order`.
        horizon: in steps.
        per: what a step is: "days".
    """
    settling = units["settling"].to_numpy()
    # The slower of two in the middle: a mean of one that settles and one that does not is none.
    middle, slowest = (_time(value, horizon, per) for value in np.sort(settling)[[len(settling) // 2, -1]])
    first = f"{len(units)} units, each by itself: half of them settle within {middle}, the slowest in {slowest}."
    most = units.iloc[int(units["nse_drop"].argmax())]
    fast = f"settles in {_time(float(most['settling']), horizon, per)}"
    lines = [first, f"Unit {most['unit']} ({fast}) is missed most: the NSE falls by {most['nse_drop']:.2f} without it."]
    quarter = scores["held"].unique()
    count = int(quarter[np.abs(quarter - len(units) / 4).argmin()])
    for target, some in scores.groupby("target", sort=False):
        at = some[some["held"] == count].set_index("order")["nse"]
        chance = at[[name for name in at.index if str(name).startswith("random ")]]
        whole = some.loc[some["held"] == 0, "nse"].iloc[0]
        random = f", a random {count} left out {chance.median():.2f} ({chance.min():.2f} to {chance.max():.2f})"
        lines.append(
            f"NSE of {target}: {whole:.2f}; the {count} slowest units left out {at['settling time']:.2f}"
            + (random if len(chance) else "")
            + "."
        )
    return "\n".join(lines)


def steps_said(summary: pd.DataFrame, per: str) -> str:
    """Up to where the contribution lies, and what reading all steps adds to reading the last."""
    lines = []
    for row in summary.to_dict("records"):
        line = (
            f"{row['target']}: half of the contribution of {row['steps']} {per} lies in the last {row['half'] + 1},"
            f" nine tenths in the last {row['nine_tenths'] + 1}. NSE over {row['windows']} windows: the network"
            f" {row['nse_network']:.2f}"
        )
        if row["reader"] == "probe":
            line += f", its last state read anew {row['nse_last']:.2f}, all {row['steps']} states {row['nse_all']:.2f}"
        lines.append(f"{line}.")
        if row["reader"] == "probe" and row["nse_all"] < row["nse_last"] - 0.02:
            lines.append("The probe that reads all of them predicts worse than that of the last: trust no share of it.")
    return "\n".join(lines)


def _time(settling: float, horizon: int, per: str) -> str:
    return f"more than {horizon} {per}" if np.isinf(settling) else f"{settling:g} {per}"
