"""The scored slices of a row: what its statistics are made of, from maps.npz and slices.csv."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from autoddpm.report.rows.row import Row, UnreadableRunError, read_ids, read_maps, read_slices

HEALTHY = "healthy"


@dataclass(frozen=True)
class Scored:
    """N slices in the order of maps.npz.

    maps: (N, H, W) anomaly maps.  lesion: (N, H, W) bool, empty in healthy slices, of which some
        have a single lesion
    pixel.  group: (N,) size groups.  slices: the lines of slices.csv.
    """

    maps: NDArray[Any]
    lesion: NDArray[Any]
    group: NDArray[Any]
    slices: pd.DataFrame

    @property
    def is_lesion(self) -> NDArray[np.bool_]:
        """(N,) which slices count as slices with a lesion."""
        return np.asarray(self.group != HEALTHY)

    @property
    def subjects(self) -> list[str]:
        """The subject of each slice."""
        return list(self.slices["subject"])


def read_scored(row: Row) -> Scored:
    """Read a row's slices; UnreadableRunError, naming the file, where one is not whole or the two
    do not agree."""
    ids = read_ids(row)
    stages = read_maps(row, ids, ["anomaly_map", "lesion"])
    slices = read_slices(row).set_index("id", drop=False)
    if len(slices) != len(ids) or set(slices.index) != set(ids):
        raise UnreadableRunError(
            f"{row.folder / 'slices.csv'} has {len(slices)} slices and maps.npz {len(ids)}, which "
            "are not the same"
        )
    slices = slices.loc[ids]
    if "subject" not in slices or slices["subject"].isna().any():
        raise UnreadableRunError(
            f"{row.folder / 'slices.csv'} does not say the subject of every slice"
        )
    if slices["size_group"].isna().any():
        raise UnreadableRunError(
            f"{row.folder / 'slices.csv'} does not say the size group of every slice"
        )
    group = slices["size_group"].to_numpy(dtype=str)
    return Scored(
        stages["anomaly_map"],
        (stages["lesion"] > 0) & (group != HEALTHY)[:, None, None],
        group,
        slices,
    )
