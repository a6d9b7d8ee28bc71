"""What a search over settings optimises, and on which data it may."""

from collections.abc import Mapping, Sequence
from typing import Any

TUNING = "tuning"  # ends the name of a data source that is there to choose by


def check_objective(objective: str | None, sources: Sequence[str]) -> None:
    """Raises ValueError where something is to be optimised on data that is there to be reported on.

    sources: names of the tested data, `data.test`.
    """
    if objective and (others := [name for name in sources if not name.endswith(TUNING)]):
        raise ValueError(
            f"objective={objective} on {', '.join(others)}: settings that are chosen on a test set "
            "make its results "
            "worthless. Choose on data=phantom_tuning or data=ixi_tuning, or on a source of your "
            "own whose name ends "
            f"with {TUNING}"
        )


def value_of(row: Mapping[str, Any], objective: str) -> float:
    """The row's metric of this name. Raises ValueError where it has none or it is undefined."""
    value = row["metrics"].get(objective)
    if value is None:
        reason = row["undefined"].get(objective) or f"there are {', '.join(sorted(row['metrics']))}"
        raise ValueError(f"objective={objective}: no such value in metrics.json ({reason})")
    return float(value)
