"""Small copies of the three data sets as they are downloaded, made from the ICBM template."""

from pathlib import Path

import h5py
import nibabel
import numpy as np
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from scipy import ndimage
from scipy.spatial.transform import Rotation

from autoddpm.preparation.template import template

IXI_SHAPE, IXI_SPACING = (
    (150, 256, 256),
    (1.2, 0.9375, 0.9375),
)  # right, front, up; the file is stored as 256 x 256 x 150


def bent_brain(index: np.ndarray, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """The template on a grid from which `index` (4, 4) leads to the template's voxels, bent by
    waves of 3 mm."""
    grid = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in shape), indexing="ij")
    points = [sum(index[r, c] * grid[c] for c in range(3)) + index[r, 3] for r in range(3)]
    waves = [3 * np.sin(points[(r + 1) % 3] / 20 + rng.uniform(0, 6)) for r in range(3)]
    bent = [p + w for p, w in zip(points, waves, strict=True)]
    return ndimage.map_coordinates(template().data, bent, order=1)


def head_in_scanner(seed: int) -> tuple[nibabel.Nifti1Image, np.ndarray]:
    """A brain at IXI's geometry, oblique, and the (4, 4) from the template's millimetres to the
    scanner's.

    The template, scaled and sheared, with a smooth deformation of up to 3 mm, a bias field and
    noise on top.
    """
    rng = np.random.default_rng(seed)
    turn = Rotation.from_euler("xyz", rng.uniform(-10, 10, 3), degrees=True).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(IXI_SPACING)
    affine[:3, 3] = rng.uniform(-10, 10, 3) - affine[:3, :3] @ (np.array(IXI_SHAPE) / 2)
    body = np.eye(4)  # from the template to the scanner
    body[:3, :3] = np.diag(rng.uniform(0.94, 1.06, 3)) + rng.uniform(-0.03, 0.03, (3, 3))
    data = bent_brain(
        np.linalg.inv(template().affine) @ np.linalg.inv(body) @ affine, IXI_SHAPE, rng
    )
    i, j = (
        np.arange(n)[:, None] if axis == 0 else np.arange(n) for axis, n in enumerate(IXI_SHAPE[:2])
    )
    bias = (1 + 0.2 * np.sin(i / 60 + rng.uniform(0, 6)) * np.cos(j / 80))[..., None]
    data = np.where(data > 0.02, data * bias + rng.normal(0, 0.01, data.shape), 0).clip(0)
    image = nibabel.Nifti1Image((1000 * data).astype(np.int16), affine)
    stored = image.as_reoriented(ornt_transform(io_orientation(affine), axcodes2ornt("PSR")))
    stored.header.set_slope_inter(0.5, 0)  # scaled integers, as some converters write them
    return nibabel.Nifti1Image(np.asarray(stored.dataobj), stored.affine, stored.header), body


def write_ixi_tree(folder: Path, subjects: dict[str, int]) -> dict[str, np.ndarray]:
    """`IXI012-HH-1211-T1.nii.gz` and so on, {name: seed}; returns the map from the template of
    each."""
    folder.mkdir(parents=True)
    bodies = {}
    for name, seed in subjects.items():
        image, bodies[name.split("-")[0]] = head_in_scanner(seed)
        nibabel.save(image, folder / f"{name}-T1.nii.gz")
    return bodies


def write_atlas_tree(folder: Path, lesions: dict[str, int]) -> None:
    """The BIDS tree of ATLAS v2.0: {subject: radius of its lesion in mm, 0 for none}, on the
    template's grid."""
    for number, (subject, radius) in enumerate(lesions.items()):
        rng = np.random.default_rng(100 + number)
        size = np.diag([*rng.uniform(0.92, 1.08, 3), 1.0])
        size[:3, 3] = [98, 116, 72] - size[:3, :3] @ [98, 116, 72]
        data = bent_brain(size, template().data.shape, rng)
        x, y, z = np.ogrid[tuple(slice(0, n) for n in data.shape)]
        mask = (x - 70 - 2 * number) ** 2 + (y - 110) ** 2 + (z - 95) ** 2 < radius**2
        data = np.where(mask, 0.2 * data, data)
        stem = f"sub-{subject}_ses-1_space-MNI152NLin2009aSym"
        anat = folder / "Training" / subject[:4].upper() / f"sub-{subject}" / "ses-1" / "anat"
        anat.mkdir(parents=True)
        nibabel.save(
            nibabel.Nifti1Image(data.astype(np.float32), template().affine),
            anat / f"{stem}_T1w.nii.gz",
        )
        label = nibabel.Nifti1Image(mask.astype(np.uint8), template().affine)
        nibabel.save(label, anat / f"{stem}_label-L_desc-T1lesion_mask.nii.gz")


ISMRMRD = """<?xml version="1.0"?><ismrmrdHeader><encoding>
<encodedSpace><matrixSize><x>640</x><y>320</y><z>1</z></matrixSize>
</encodedSpace><reconSpace><matrixSize><x>320</x><y>320</y><z>1</z></matrixSize><fieldOfView_mm><x>220</x><y>220</y><z>5</z>
</fieldOfView_mm></reconSpace></encoding></ismrmrdHeader>"""


def write_fastmri_tree(folder: Path, files: list[str], slices: int = 7, side: int = 320) -> None:
    """h5 files with `reconstruction_rss` (slices x rows x columns), upside down, and a k-space that
    nobody reads."""
    folder.mkdir(parents=True)
    for number, name in enumerate(files):
        rng = np.random.default_rng(number)
        z = np.linspace(70, 125, slices) + 2 * number
        scale = (
            np.diag(177 / side * rng.uniform(0.85, 1.1, 2))
            @ Rotation.from_rotvec([0, 0, 0.1 * number]).as_matrix()[:2, :2]
        )
        offset = np.array([116, 98]) - scale @ np.full(2, side / 2)
        planes = [
            np.flipud(template().data[:, :, round(float(each))].T) for each in z
        ]  # the front of the head above
        stack = np.stack(
            [
                np.flipud(ndimage.affine_transform(p, scale, offset, (side, side), order=1))
                for p in planes
            ]
        )
        with h5py.File(folder / f"{name}.h5", "w") as file:
            file["reconstruction_rss"] = (1e-3 * stack * (1 + 0.05 * number)).astype(np.float32)
            file["ismrmrd_header"] = ISMRMRD
            file["kspace"] = np.zeros((slices, 2, 4, 4), np.complex64)
