"""Maps of slices put back into the volumes that the slices were cut from."""

from collections.abc import Mapping
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
from nibabel.nifti1 import Nifti1Header

from autoddpm.atomic import written_whole
from autoddpm.preparation.geometry import SliceGeometry, to_volume


def write_nifti(folder: Path, maps: Mapping[str, np.ndarray], index: pd.DataFrame) -> list[Path]:
    """Write `folder`/SUBJECT_NAME.nii.gz for each of `maps`. Returns the paths.

    A file has the grid and the header of its source volume.

    maps: by name, (N, size, size), and "id": (N,).
    index: id, subject, source, geometry of each slice, as a store's; none may be empty.
    """
    position = {slice_id: i for i, slice_id in enumerate(maps["id"].tolist())}
    index = index[index["id"].isin(list(position))]
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for source, slices in index.groupby("source"):
        geometries = [SliceGeometry.from_json(text) for text in slices["geometry"]]
        for name, values in maps.items():
            if name == "id":
                continue
            image = to_volume(
                [values[position[i]].astype(np.float32) for i in slices["id"]], geometries
            )
            if Path(str(source)).is_file() and str(source).endswith((".nii", ".nii.gz")):
                header = Nifti1Header.from_header(nibabel.load(str(source)).header)
                header.set_slope_inter(1, 0)
                header.set_data_dtype(np.float32)
                header.set_intent("none")
                # The scan's own would make a viewer show the map black.
                header["cal_min"] = header["cal_max"] = 0
                image = nibabel.Nifti1Image(np.asarray(image.dataobj), image.affine, header)
            path = folder / f"{slices['subject'].iloc[0]}_{name}.nii.gz"
            with written_whole(path) as temporary:
                nibabel.save(image, temporary)
            written.append(path)
    return written
