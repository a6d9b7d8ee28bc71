"""The scored slices of a row, from maps.npz and slices.csv: what it is resampled from."""

import numpy as np
import pandas as pd

from autoddpm.data.lesion_size import GROUPS
from autoddpm.metrics.scored_slices import ScoredSlices
from autoddpm.runs.folder import SLICES, UnreadableRunError
from autoddpm.runs.row import Row, read_ids, read_maps, read_slices

FIDELITY = ("ssim", "mse", "lpips")  # columns of slices.csv


def read_scored_slices(row: Row) -> tuple[ScoredSlices, list[str]]:
    """A row's slices in the order of maps.npz, and the subject of each.

    Raises UnreadableRunError, naming the file, if one is not whole or the two do not agree.
    """
    ids = read_ids(row)
    stages = read_maps(row, ids, ["anomaly_map", "lesion"])
    slices = _in_order(row, ids)
    thresholds = {
        name: value
        for name, value in row.thresholds.items()
        if value is not None and name != "mask_threshold"
    }
    group = slices["size_group"].map(GROUPS.index).to_numpy()
    kept = {name: slices[name].to_numpy(dtype=float) for name in FIDELITY if name in slices}
    site = slices["site"].fillna("").to_numpy(str) if "site" in slices else np.empty(0, str)
    scored = ScoredSlices(stages["anomaly_map"], stages["lesion"], group, thresholds, kept, site)
    return scored, list(slices["subject"])


def _in_order(row: Row, ids: list[str]) -> pd.DataFrame:
    slices, path = read_slices(row).set_index("id", drop=False), row.folder / SLICES
    if len(slices) != len(ids) or set(slices.index) != set(ids):
        raise UnreadableRunError(
            f"{path} has {len(slices)} slices and maps.npz {len(ids)}, which are not the same"
        )
    slices = slices.loc[ids]
    if "subject" not in slices or slices["subject"].isna().any():
        raise UnreadableRunError(f"{path} does not say the subject of every slice")
    if not slices["size_group"].isin(GROUPS).all():
        raise UnreadableRunError(f"{path} does not say the size group of every slice")
    return slices
