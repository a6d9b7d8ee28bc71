"""Dice against the seconds that a slice takes: which method one would choose at which speed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from autoddpm.report.figures.theme import BASELINE, DPI, LIGHT, METHOD, Theme, dress
from autoddpm.runs.row import Row

DICE, SECONDS, CALLS = "lesion/max_dice", "seconds_per_slice", "calls_per_slice"
LINE = 0.042  # height of a label, as a share of the axes'


@dataclass(frozen=True)
class Place:
    """A method: its name, seconds per slice, and highest Dice in percent."""

    title: str
    seconds: float
    dice: float


def places(rows: Sequence[Row]) -> list[Place]:
    """The methods that have both numbers, from fast to slow. An upper bound is no method.

    Of a method's rows of the same weights, calls and `postprocess`, which differ in their maps, the
    one of the highest Dice counts.
    """
    best: dict[tuple[str, ...], Row] = {}
    for row in [one for one in rows if not one.sees_lesion]:
        if not row.metrics.get(SECONDS) or row.metrics.get(DICE) is None:
            continue
        given = row.metrics.get(CALLS), *map(row.provenance.get, ("weights_hash", "postprocess"))
        key = row.label, *map(str, given)
        if key not in best or _dice(row) > _dice(best[key]):
            best[key] = row
    several = [label for label, *_ in best]
    found = [
        Place(
            row.title if several.count(row.label) > 1 else row.label,
            float(row.metrics[SECONDS] or 0),
            100 * _dice(row),
        )
        for row in best.values()
    ]
    return sorted(found, key=lambda one: (one.seconds, -one.dice))


def _dice(row: Row) -> float:
    return float(row.metrics[DICE] or 0)


def front(found: Sequence[Place]) -> list[Place]:
    """Those that no other one beats: faster ones have less Dice. `found` is from fast to slow."""
    best: list[Place] = []
    for one in found:
        if not best or one.dice > best[-1].dice:
            best.append(one)
    return best


def draw_pareto(found: Sequence[Place], theme: Theme = LIGHT) -> Figure:
    """Points over a logarithmic axis of seconds; a line joins those that no other one beats."""
    figure = Figure(figsize=(6.2, 3.6), dpi=DPI, facecolor=theme.paper, layout="constrained")
    axes = figure.subplots()
    dress(axes, theme, "seconds per slice", "highest Dice, %")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    best = front(found)
    seconds, dice = (
        np.array([getattr(one, name) for one in found]) for name in ("seconds", "dice")
    )
    axes.set_xlim(seconds.min() / 2, seconds.max() * 12)  # room for the labels
    axes.set_ylim(0, max(1, 1.1 * dice.max()))
    steps = [getattr(one, name) for name in ("seconds", "dice") for one in best]
    axes.step(steps[: len(best)], steps[len(best) :], where="post", color=METHOD, lw=0.7, alpha=0.5)
    axes.grid(axis="y", lw=0.4, color=theme.ink, alpha=0.15)
    axes.spines[["top", "right"]].set_visible(False)
    highest = axes.get_ylim()[1]
    heights = _apart(dice / highest + LINE / 2, seconds) * highest  # above the line
    for one, height in zip(found, heights, strict=True):
        colour = METHOD if one in best else BASELINE
        axes.plot(one.seconds, one.dice, "o", ms=3.5, color=colour)
        axes.annotate(
            one.title,
            (one.seconds, one.dice),
            (one.seconds * 1.15, height),
            fontsize=6,
            va="center",
            color=theme.ink,
            arrowprops={"arrowstyle": "-", "lw": 0.3, "color": theme.ink, "alpha": 0.4},
        )
    return figure


def _apart(heights: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """Heights of labels that do not cover each other, from heights of points in [0, 1].

    Only labels of points within a factor of ten in seconds can.
    """
    placed = heights.astype(float).copy()
    order = np.argsort(heights, kind="stable")
    for n, here in enumerate(order):
        below = [
            placed[other]
            for other in order[:n]
            if abs(np.log10(seconds[other] / seconds[here])) < 1
        ]
        placed[here] = max([placed[here], *(one + LINE for one in below)])
    return placed
