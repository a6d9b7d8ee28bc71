"""A search over settings: the data that it may be computed on, and the value that it optimises."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

TUNING = "tuning"  # ends the name of a data source that is there to choose by


def check_search(objective: str | None, sources: Sequence[str], keys: Sequence[str]) -> None:
    """Refuse to optimise what is no metric, or one on data that results are reported on.

    objective: name of the metric. None: nothing is optimised.
    sources: names of the tested data, `data.test`.
    keys: names of the metrics. That of a site is one with the site behind it.

    Raises ValueError, also if the name of a source does not end with `TUNING`.
    """
    if objective and not any(objective == key or objective.startswith(f"{key}/") for key in keys):
        alike = get_close_matches(objective, keys, 3, 0.3) or sorted(keys)
        raise ValueError(f"objective={objective}: is no metric; there are {', '.join(alike)}")
    if objective and (others := [name for name in sources if not name.endswith(TUNING)]):
        raise ValueError(
            f"objective={objective} on {', '.join(others)}: settings that are chosen on a test set "
            "make its results worthless. Choose on data=phantom_tuning or data=ixi_tuning, or on a "
            f"source of your own whose name ends with {TUNING}"
        )


def objective_value(row: Mapping[str, Any], objective: str) -> float:
    """The row's metric of this name.

    Raises ValueError if there is none, or if it is undefined.
    """
    value = row["metrics"].get(objective)
    if value is None:
        reason = row["undefined"].get(objective) or f"there are {', '.join(sorted(row['metrics']))}"
        raise ValueError(f"objective={objective}: no such value in metrics.json ({reason})")
    return float(value)
