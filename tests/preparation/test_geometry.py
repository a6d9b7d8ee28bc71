"""The way back: from what the network sees to the voxels of the source."""

import gzip
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from nibabel.nifti1 import Nifti1Image
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from scipy import ndimage
from scipy.spatial.transform import Rotation

from autoddpm.data.preprocess import preprocess
from autoddpm.preparation.geometry import (
    SliceGeometry,
    interpolate_slice,
    to_volume,
    undo_preprocess,
)
from autoddpm.preparation.nifti import check_volumes, write_nifti
from autoddpm.preparation.volume import Source, read_volume


def turned(degrees: tuple[float, float, float], spacing: tuple[float, float, float]) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix() @ np.diag(
        spacing
    )
    return affine


def as_cut(volume_shape: tuple[int, int, int], affine: np.ndarray, z: int) -> SliceGeometry:
    """Slice z of a volume that is stored as it is cut, unregistered."""
    on_plane = affine @ turned((0, 0, 0), (1, 1, 1))
    on_plane[:3, 3] += affine[:3, 2] * z
    return SliceGeometry(volume_shape[:2], on_plane, np.eye(4), volume_shape, affine)


@pytest.mark.parametrize(("shape", "size"), [((61, 73), 128), ((73, 61), 32), ((20, 17), 128)])
def test_undo_preprocess_is_the_inverse_of_preprocess(shape: tuple[int, int], size: int) -> None:
    x, y = np.meshgrid(np.linspace(0, 1, shape[0]), np.linspace(0, 1, shape[1]), indexing="ij")
    plane = (0.2 + 0.5 * x + 0.15 * y + 0.1 * np.sin(5 * x) * y).astype(
        np.float32
    )  # (X, Y), without symmetry
    seen = preprocess(np.rot90(plane), None, size, window=False).image
    back = undo_preprocess(seen, shape)
    assert back.shape == shape
    inner = (slice(3, -3), slice(3, -3))  # at the rim the resize mixes the slice with its padding
    np.testing.assert_allclose(back[inner], plane[inner], atol=0.01)


def test_undo_preprocess_brings_a_single_pixel_to_its_own_place() -> None:
    for x, y in ((0, 0), (12, 3), (5, 19), (12, 19)):
        plane = np.zeros((13, 20), np.float32)
        plane[x, y] = 1
        seen = preprocess(
            np.rot90(plane), None, 20, window=False
        ).image  # no resize: only turn and padding
        np.testing.assert_array_equal(undo_preprocess(seen, (13, 20)), plane)


REGISTERED = turned((4, -7, 9), (1.08, 0.93, 1.05))
REGISTERED[:3, :3] += [[0, 0.04, 0], [0, 0, -0.03], [0.02, 0, 0]]
REGISTERED[:3, 3] = 3.5, -6.2, 4.4


@pytest.mark.parametrize(
    ("spacing", "degrees", "axes", "to_source"),
    [
        ((1, 1, 1), (0, 0, 0), "RAS", np.eye(4)),
        ((1.2, 0.9, 0.9), (8, -5, 11), "LPI", np.eye(4)),
        ((1.2, 0.9, 0.9), (8, -5, 11), "PSR", REGISTERED),
        ((0.9, 1.1, 4.0), (3, 6, -9), "PSR", REGISTERED),
    ],
    ids=["straight", "oblique", "registered", "thick slices"],
)
def test_a_mark_in_a_source_volume_comes_back_to_its_voxel(
    tmp_path: Path,
    spacing: tuple[float, float, float],
    degrees: tuple[float, float, float],
    axes: str,
    to_source: np.ndarray,
) -> None:
    extent = np.array([70, 80, 64])  # mm
    shape = np.round(extent / spacing).astype(int)
    affine = turned(degrees, spacing)
    affine[:3, 3] = [11, -23, 7] - affine[:3, :3] @ (shape / 2)
    centre = np.round(
        shape * [0.4, 0.63, 0.55]
    )  # of the mark: no axis like another, none in the middle
    offset = affine[:3, :3] @ (np.indices(shape).reshape(3, -1) - centre[:, None])
    blob = np.exp(-(np.linalg.norm(offset, axis=0).reshape(shape) ** 2) / (2 * 2.5**2))
    canonical = Nifti1Image(blob.astype(np.float32), affine)
    nibabel.save(
        canonical.as_reoriented(ornt_transform(io_orientation(affine), axcodes2ornt(axes))),
        tmp_path / "a.nii",
    )

    volume = read_volume(Source(tmp_path / "a.nii"))
    grid = turned((0, 0, 0), (1.1, 1.1, 1.0))  # of a template
    grid[:3, 3] = -45, -75, -45
    marked = np.linalg.inv(grid) @ np.linalg.inv(to_source) @ affine @ [*centre, 1]
    z, plane = round(marked[2]), (90, 100)
    image = interpolate_slice(volume.data, volume.affine, to_source, grid, plane, z)
    found = np.array(ndimage.center_of_mass(image))
    assert np.abs(found - marked[:2]).max() < 0.6
    seen = preprocess(np.rot90(image), None, 128, window=False).image

    on_plane = grid.copy()
    on_plane[2, 3] += z
    geometry = SliceGeometry(plane, on_plane, to_source, volume.file_shape, volume.file_affine)
    back = to_volume([seen], [SliceGeometry.from_json(geometry.to_json())])
    source = nibabel.load(tmp_path / "a.nii")
    assert back.shape == source.shape
    np.testing.assert_array_equal(back.affine, source.affine)
    values = np.asarray(back.dataobj)
    brightest = np.array(np.unravel_index(np.asarray(source.dataobj).argmax(), source.shape))
    assert np.abs(np.array(ndimage.center_of_mass(values)) - brightest).max() <= 1.0
    assert np.abs(np.array(np.unravel_index(values.argmax(), values.shape)) - brightest).max() <= 1
    # What came back is the source itself, wherever the slice went through it.
    there = values > 0.05
    assert np.abs(values - np.asarray(source.dataobj))[there].max() < 0.35


AFFINE = turned((12, -20, 25), (1.2, 0.9, 2.5))


def test_a_slice_fills_its_whole_plane_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    shape = (24, 24, 7)
    map_ = rng.random((24, 24)).astype(np.float32) + 1
    for z in range(7):
        volume = np.asarray(to_volume([map_], [as_cut(shape, AFFINE, z)]).dataobj)
        assert volume.dtype == np.float32
        np.testing.assert_allclose(volume[:, :, z], np.rot90(map_, -1), atol=1e-4)
        assert not np.delete(volume, z, axis=2).any()


def test_each_slice_s_map_goes_to_its_own_plane_in_any_order() -> None:
    shape = (18, 18, 9)
    geometries = [as_cut(shape, AFFINE, z) for z in (2, 3, 7)]
    maps = [np.full((18, 18), value, np.float32) for value in (1, 2, 3)]
    for order in ([0, 1, 2], [2, 1, 0], [1, 0, 2]):
        volume = np.asarray(
            to_volume([maps[i] for i in order], [geometries[i] for i in order]).dataobj
        )
        expected = np.zeros(shape)
        expected[:, :, [2, 3, 7]] = [1, 2, 3]
        np.testing.assert_allclose(volume, expected, atol=1e-4)


def test_a_thick_voxel_takes_the_nearest_of_the_slices_within_it() -> None:
    affine = turned((0, 0, 0), (1, 1, 5))  # voxels 2 and 3 have their centres at 10 and 15 mm
    geometries = []
    for height in (8, 9, 11, 13, 14):
        on_plane = np.eye(4)
        on_plane[2, 3] = height
        geometries.append(SliceGeometry((16, 16), on_plane, np.eye(4), (16, 16, 6), affine))
    maps = [np.full((16, 16), value, np.float32) for value in (1, 2, 3, 4, 5)]
    for order in ([0, 1, 2, 3, 4], [4, 3, 2, 1, 0]):
        volume = np.asarray(
            to_volume([maps[i] for i in order], [geometries[i] for i in order]).dataobj
        )
        assert set(volume[:, :, 2].ravel()) <= {2, 3}  # both 1 mm off
        assert set(volume[:, :, 3].ravel()) == {5}
        assert not volume[:, :, [0, 1, 4, 5]].any()


def test_what_lies_outside_the_slice_is_0() -> None:
    on_plane = np.eye(4)
    on_plane[:3, 3] = 4, 6, 2
    geometry = SliceGeometry((16, 17), on_plane, np.eye(4), (30, 30, 5), np.eye(4))
    volume = np.asarray(to_volume([np.ones((17, 17), np.float32)], [geometry]).dataobj)
    expected = np.zeros((30, 30, 5))
    expected[4:20, 6:23, 2] = 1
    np.testing.assert_allclose(volume, expected, atol=1e-6)


def test_slices_of_volumes_on_different_grids_are_refused() -> None:
    first = as_cut((18, 18, 9), AFFINE, 2)
    for other in (as_cut((18, 18, 10), AFFINE, 2), replace(first, source_affine=np.eye(4))):
        with pytest.raises(ValueError, match="different grids"):
            to_volume([np.ones((18, 18), np.float32)] * 2, [first, other])


def test_a_geometry_survives_json_to_the_last_bit() -> None:
    rng = np.random.default_rng(3)
    geometry = SliceGeometry(
        (197, 233),
        rng.normal(size=(4, 4)) / 3,
        rng.normal(size=(4, 4)) * 1e-7,
        (150, 256, 256),
        np.eye(4) / 7,
    )
    text = geometry.to_json()
    assert "\n" not in text
    back = SliceGeometry.from_json(text)
    assert (back.slice_shape, back.source_shape) == (geometry.slice_shape, geometry.source_shape)
    for name in ("slice_affine", "to_source", "source_affine"):
        assert getattr(back, name).tobytes() == getattr(geometry, name).tobytes()
    assert back.to_json() == text


@pytest.mark.parametrize("text", ["", "[1, 2]", '{"slice_shape": 3}'])
def test_what_is_no_geometry_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no geometry of a slice"):
        SliceGeometry.from_json(text)


def evaluated(folder: Path) -> tuple[dict[str, np.ndarray], pd.DataFrame]:
    """Maps of 3 slices of 2 subjects, and the index of the store that they are from."""
    image = Nifti1Image(np.arange(16 * 16 * 5, dtype=np.int16).reshape(16, 16, 5), AFFINE)
    image.header.set_xyzt_units("mm", "sec")
    image.header["descrip"] = b"of the scanner"
    image.header.set_slope_inter(0.5, 7)
    nibabel.save(image, folder / "A.nii.gz")
    geometries = [as_cut((16, 16, 5), image.affine, z).to_json() for z in (1, 3, 2)]
    sources = [str(folder / "A.nii.gz")] * 2 + [f"{folder}/all.tar/B.nii.gz"]
    rows = zip(["s/A_z1", "s/A_z3", "s/B"], ["A", "A", "B"], sources, geometries, strict=True)
    index = pd.DataFrame(rows, columns=["id", "subject", "source", "geometry"])
    index["volume"] = ["s/A", "s/A", "s/B"]
    values = np.stack([np.full((16, 16), v, np.float16) for v in (3, 1, 2)])
    return {
        "id": np.array(["s/B", "s/A_z1", "s/A_z3"]),
        "anomaly_map": values,
        "reconstruction": values / 10,
    }, index


def test_maps_are_written_on_their_source_s_grid_with_its_header(tmp_path: Path) -> None:
    maps, index = evaluated(tmp_path)
    written = write_nifti(tmp_path / "nifti", maps, index)
    names = ["A_anomaly_map", "A_reconstruction", "B_anomaly_map", "B_reconstruction"]
    assert [path.name for path in written] == [f"{name}.nii.gz" for name in names]
    assert sorted(path.name for path in (tmp_path / "nifti").iterdir()) == sorted(
        path.name for path in written
    )
    ours, source = nibabel.load(written[0]), nibabel.load(tmp_path / "A.nii.gz")
    data = np.asarray(ours.dataobj)
    assert ours.get_data_dtype() == np.float32
    np.testing.assert_allclose(data.max(axis=(0, 1)), [0, 1, 0, 2, 0], atol=1e-4)
    np.testing.assert_array_equal(ours.affine, source.affine)
    for field in ("pixdim", "qform_code", "sform_code", "xyzt_units", "descrip"):
        assert ours.header[field].tobytes() == source.header[field].tobytes(), field
    other = nibabel.load(written[2])  # its source is inside a tar: the grid without a header
    np.testing.assert_allclose(
        np.asarray(other.dataobj).max(axis=(0, 1)), [0, 0, 3, 0, 0], atol=1e-4
    )
    np.testing.assert_allclose(other.affine, source.affine, atol=1e-6)


def test_maps_of_slices_that_were_not_cut_here_are_refused(tmp_path: Path) -> None:
    _, index = evaluated(tmp_path)
    check_volumes(index)
    with pytest.raises(ValueError, match=r"do not say which volumes .*; see src\.prepare"):
        check_volumes(index.assign(geometry=["{}", "", "{}"]))


@pytest.mark.parametrize("kind", ["plain", "NIfTI-2"])
def test_a_source_s_content_says_what_it_is_not_its_name(tmp_path: Path, kind: str) -> None:
    maps, index = evaluated(tmp_path)
    source = tmp_path / "A.nii.gz"
    image = nibabel.load(source)
    if kind == "plain":
        source.write_bytes(gzip.decompress(source.read_bytes()))
    else:
        other = nibabel.Nifti2Image(np.asarray(image.dataobj), image.affine)
        other.header["descrip"] = b"of the scanner"
        nibabel.save(other, source)
    check_volumes(index)
    written = nibabel.load(write_nifti(tmp_path / "nifti", maps, index)[0])
    assert written.header["descrip"].tobytes().rstrip(b"\0") == b"of the scanner"
    np.testing.assert_allclose(np.asarray(written.dataobj).max(axis=(0, 1)), [0, 1, 0, 2, 0])


@pytest.mark.parametrize("content", [b"", b"\x1f\x8b\x08", b"no image" * 100])
def test_a_source_that_was_damaged_is_named_before_work(tmp_path: Path, content: bytes) -> None:
    _, index = evaluated(tmp_path)
    (tmp_path / "A.nii.gz").write_bytes(content)
    with pytest.raises(ValueError, match=r"A\.nii\.gz: its header cannot be read .*nifti=true"):
        check_volumes(index)


def test_two_volumes_of_one_subject_have_files_of_their_own(tmp_path: Path) -> None:
    maps, index = evaluated(tmp_path)
    written = write_nifti(tmp_path / "nifti", maps, index.assign(subject="A"))
    assert [path.name[:2] for path in written] == ["A_", "A_", "B_", "B_"]
