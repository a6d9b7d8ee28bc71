"""Rows that differ only in their seeds, as one row of means and standard deviations."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from autoddpm.report.rows.methods import is_seed, settings_of
from autoddpm.runs.row import Row


def pool_seeds(rows: Sequence[Row], across_weights: bool = False) -> list[Row]:
    """Pool rows of one label and data that differ only in settings called seed.

    Each group becomes one row, at its first's place. Its metrics are means, undefined if one
    member's is; `members` holds the rows themselves. Rows that have the same seeds and weights are
    no seeds of each other, and stay apart.

    across_weights: whether rows of different weights, trained for equally many steps, are seeds of
        one training too.
    """
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[_but_seeds(row, across_weights)].append(row)
    pooled: dict[Path, Row | None] = {}
    for group in groups.values():
        if len(group) > 1 and len({_seeds(row) for row in group}) == len(group):
            pooled |= {row.folder: None for row in group[1:]} | {group[0].folder: _mean(group)}
    return [row for row in (pooled.get(row.folder, row) for row in rows) if row is not None]


def seed_of(row: Row, among: Sequence[Row] = ()) -> str:
    """The seed of a row and its weights, in words.

    among: rows. Each further seed in which they differ is named too.
    """
    seeds = [
        {key: value for key, value in _settings(one).items() if is_seed(key)}
        for one in (row, *among)
    ]
    own, main = seeds[0], row.provenance.get("seed", "–")
    others = [
        key for key in own if own[key] != main and len({repr(one.get(key)) for one in seeds}) > 1
    ]
    words = [f"seed {main}", *(f"{key} {own[key]}" for key in others)]
    return ", ".join([*words, f"weights {str(row.provenance.get('weights_hash', '–'))[:8]}"])


def _seeds(row: Row) -> str:
    """Every seed of a row, and its weights."""
    seeds = sorted((key, str(value)) for key, value in _settings(row).items() if is_seed(key))
    return repr((seeds, row.provenance.get("weights_hash")))


def _settings(row: Row) -> dict[str, Any]:
    facts = ("data_hash", "weights_hash", "weights_step")
    return settings_of(row) | {key: row.provenance.get(key) for key in facts}


def _but_seeds(row: Row, across_weights: bool) -> str:
    free = {"weights_hash"} if across_weights else set()
    kept = {
        key: value for key, value in _settings(row).items() if not is_seed(key) and key not in free
    }
    return repr((row.label, sorted(kept.items(), key=lambda item: item[0])))


def _mean(members: Sequence[Row]) -> Row:
    first = members[0]
    metrics: dict[str, float | None] = {}
    undefined, deviation = dict(first.undefined), {}
    for key in dict.fromkeys(key for row in members for key in row.metrics):
        defined = [value for row in members if (value := row.metrics.get(key)) is not None]
        if len(defined) == len(members):
            metrics[key], deviation[key] = float(np.mean(defined)), float(np.std(defined, ddof=1))
        else:
            lacking = next(row for row in members if row.metrics.get(key) is None)
            metrics[key], undefined[key] = (
                None,
                f"{lacking.undefined_because(key)} ({seed_of(lacking, members)})",
            )
    settings = {key: value for key, value in first.settings.items() if not is_seed(key)}
    provenance = {key: _of_all(members, key) for key in first.provenance if not is_seed(key)}
    return replace(
        first,
        metrics=metrics,
        undefined=undefined,
        settings=settings,
        provenance=provenance,
        members=tuple(members),
        spread=deviation,
    )


def _of_all(members: Sequence[Row], key: str) -> Any:
    """The value in all members' records, joined with + if they differ: a mean is of all of them."""
    values = [row.provenance.get(key) for row in members]
    return (
        values[0]
        if all(value == values[0] for value in values)
        else " + ".join(sorted({*map(str, values)}))
    )
