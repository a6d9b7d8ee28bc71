"""Raw volumes: orientation, scaling, tar members, h5; and what is refused."""

import gzip
import hashlib
import tarfile
import warnings
from collections.abc import Callable
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pytest
from nibabel.nifti1 import Nifti1Image
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from scipy.spatial.transform import Rotation

from autoddpm.preparation.volume import Source, Volume, members, read_mask, read_volume

SHAPE = (7, 5, 6)
DATA = np.random.default_rng(0).integers(1, 1000, SHAPE).astype(np.int16)
AFFINE = np.array([[1.2, 0, 0, -31], [0, 0.9, 0, 17], [0, 0, 2.5, 5], [0, 0, 0, 1.0]])
OBLIQUE = AFFINE.copy()
OBLIQUE[:3, :3] = (
    Rotation.from_euler("xyz", [12, -20, 25], degrees=True).as_matrix() @ AFFINE[:3, :3]
)
AXES = ("RAS", "LPS", "PSR", "IRP")


def stored_as(image: Nifti1Image, axes: str) -> Nifti1Image:
    """The same volume with its voxels in another order in the file."""
    return image.as_reoriented(ornt_transform(io_orientation(image.affine), axcodes2ornt(axes)))


def save(path: Path, data: np.ndarray = DATA, affine: np.ndarray | None = AFFINE) -> Source:
    nibabel.save(Nifti1Image(data, affine), path)
    return Source(path)


def put(path: Path, content: bytes) -> Source:
    path.write_bytes(content)
    return Source(path)


@pytest.mark.parametrize("axes", AXES)
def test_every_voxel_keeps_its_place_however_the_file_is_stored(tmp_path: Path, axes: str) -> None:
    image = stored_as(Nifti1Image(DATA, OBLIQUE), axes)
    nibabel.save(image, tmp_path / "a.nii.gz")
    volume = read_volume(Source(tmp_path / "a.nii.gz"))
    assert nibabel.aff2axcodes(volume.affine) == ("R", "A", "S")
    np.testing.assert_allclose(volume.affine, OBLIQUE, atol=1e-4)
    np.testing.assert_array_equal(volume.data, DATA)
    np.testing.assert_allclose(volume.spacing, [1.2, 0.9, 2.5], rtol=1e-5)
    assert volume.file_shape == image.shape
    np.testing.assert_allclose(volume.file_affine, image.affine, atol=1e-4)


def test_scaled_integers_are_read_as_their_header_says(tmp_path: Path) -> None:
    content = bytearray(Nifti1Image(DATA, AFFINE).to_bytes())
    content[112:120] = np.array([0.5, -100], np.float32).tobytes()  # scl_slope, scl_inter
    volume = read_volume(put(tmp_path / "a.nii", bytes(content)))
    assert volume.data.dtype == np.float32
    np.testing.assert_array_equal(volume.data, DATA * 0.5 - 100)


def test_one_volume_is_one_volume_in_any_wrapping(tmp_path: Path) -> None:
    image = Nifti1Image(DATA, AFFINE)
    swapped = Nifti1Image(DATA, AFFINE, Nifti1Image(DATA, AFFINE).header.as_byteswapped(">"))
    contents = {
        "one-of-4d.nii": Nifti1Image(DATA[..., None], AFFINE).to_bytes(),
        "nifti2.nii": nibabel.Nifti2Image(DATA, AFFINE).to_bytes(),
        "swapped.nii": swapped.to_bytes(),
        "packed.nii.gz": gzip.compress(image.to_bytes()),
        "packed-by-name-only.nii.gz": image.to_bytes(),
    }
    for name, content in contents.items():
        volume = read_volume(put(tmp_path / name, content))
        np.testing.assert_array_equal(volume.data, DATA, err_msg=name)
        assert volume.sha256 == hashlib.sha256(content).hexdigest()


def test_members_of_a_tar_are_read_where_they_lie(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{i}.nii.gz", DATA + i).path for i in range(3)]
    with tarfile.open(tmp_path / "all.tar", "w") as tar:
        for path in paths:
            tar.add(path, f"folder/{path.name}")
    found = members(tmp_path / "all.tar")
    assert [source.name for source in found] == ["0.nii.gz", "1.nii.gz", "2.nii.gz"]
    assert str(found[1]) == f"{tmp_path}/all.tar/folder/1.nii.gz"
    for i, (source, path) in enumerate(zip(found, paths, strict=True)):
        assert source.size == path.stat().st_size
        assert source.read_bytes() == path.read_bytes()
        np.testing.assert_array_equal(read_volume(source).data, DATA + i)


@pytest.mark.parametrize(("name", "words"), [("a.zip", "unzip a.zip"), ("a.tgz", "tar xf a.tgz")])
def test_an_archive_is_told_how_to_unpack_it(name: str, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"PK\3\4")
    with pytest.raises(ValueError, match=f"this is an archive: unpack it first \\(`{words}`\\)"):
        members(tmp_path / name)


@pytest.mark.parametrize("damage", ["compressed", "cut", "no tar"])
def test_a_tar_that_is_not_whole_or_compressed_is_named(tmp_path: Path, damage: str) -> None:
    path = save(tmp_path / "a.nii.gz").path
    with tarfile.open(tmp_path / "all.tar", "w:gz" if damage == "compressed" else "w") as tar:
        tar.add(path)
        tar.add(path, "b.nii.gz")
    if damage == "cut":
        content = (tmp_path / "all.tar").read_bytes()
        put(tmp_path / "all.tar", content[: members(tmp_path / "all.tar")[1].offset + 20])
    elif damage == "no tar":
        put(tmp_path / "all.tar", path.read_bytes())
    with pytest.raises(ValueError, match=r"all\.tar: cannot be read as a tar .*unpack"):
        members(tmp_path / "all.tar")


def changed(value: float) -> np.ndarray:
    data = DATA.astype(np.float32)
    data[3, 2, 1] = value
    return data


def without_orientation() -> bytes:
    return Nifti1Image(DATA, None).to_bytes()


def with_affine(affine: np.ndarray) -> bytes:
    image = Nifti1Image(DATA, AFFINE)
    image.header.set_qform(None, 0)
    header = bytearray(image.to_bytes())
    header[280:328] = affine[:3].astype(np.float32).tobytes()  # srow_x, srow_y, srow_z
    return bytes(header)


GOOD = Nifti1Image(DATA, AFFINE).to_bytes()
BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "gzip cut off": (lambda: gzip.compress(GOOD)[:-40], "is not whole"),
    "gzip changed": (lambda: gzip.compress(GOOD)[:-8] + bytes(8), "cannot be used"),
    "cut off": (lambda: GOOD[:500], "cannot be used"),
    "empty": (lambda: b"", "cannot be used"),
    "a web page": (lambda: b"<html>404 not found</html>" * 40, "cannot be used"),
    "NaN": (
        lambda: Nifti1Image(changed(np.nan), AFFINE).to_bytes(),
        "1 voxels are NaN or infinite",
    ),
    "constant": (lambda: Nifti1Image(np.full(SHAPE, 3.0), AFFINE).to_bytes(), "every voxel is 3"),
    "4-D": (
        lambda: Nifti1Image(np.stack([DATA, DATA], -1), AFFINE).to_bytes(),
        "7 x 5 x 6 x 2, not one volume",
    ),
    "one slice": (
        lambda: Nifti1Image(DATA[:, :, :1], AFFINE).to_bytes(),
        "7 x 5 x 1, not one volume",
    ),
    "complex": (
        lambda: Nifti1Image(DATA.astype(np.complex64), AFFINE).to_bytes(),
        "complex64 instead of real",
    ),
    "no orientation": (without_orientation, "no orientation"),
    "flat affine": (lambda: with_affine(AFFINE * [1, 1, 0, 1]), "affine cannot be inverted"),
    "NaN in the affine": (lambda: with_affine(AFFINE * [1, np.nan, 1, 1]), "cannot be used"),
    "metres": (
        lambda: with_affine(AFFINE * [[1e-3], [1e-3], [1e-3], [1]]),
        "0.0012 x 0.0009 x 0.0025 mm.*units",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_a_volume_that_cannot_be_used_is_refused_by_name(tmp_path: Path, what: str) -> None:
    content, words = BAD[what]
    source = put(tmp_path / "bad one.nii.gz", content())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "invalid value encountered")  # of a NaN in the affine
        with pytest.raises(ValueError, match=words) as refused:
            read_volume(source)
    assert str(refused.value).startswith(f"{tmp_path}/bad one.nii.gz: ")
    assert any(
        remedy in str(refused.value)
        for remedy in ("leave it out", "save one 3-D image", "correct the header")
    )


def test_a_file_that_is_absent_is_named_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="No such file") as refused:
        read_volume(Source(tmp_path / "a.nii.gz"))
    assert str(refused.value).count("a.nii.gz") == 1


HEADER = """<?xml version="1.0"?><ismrmrdHeader><encoding>
<encodedSpace><matrixSize><x>9</x><y>9</y><z>1</z></matrixSize><fieldOfView_mm><x>1</x><y>1</y><z>1</z>
</fieldOfView_mm></encodedSpace>
<reconSpace><matrixSize><x>5</x><y>10</y><z>1</z></matrixSize>
<fieldOfView_mm><x>10.5</x><y>25</y><z>7.5</z></fieldOfView_mm></reconSpace></encoding></ismrmrdHeader>"""


def h5(path: Path, **content: object) -> Source:
    with h5py.File(path, "w") as file:
        for name, value in content.items():
            file[name] = value
    return Source(path)


def test_an_h5_has_columns_to_the_right_and_rows_to_the_front(
    tmp_path: Path,
) -> None:
    stack = (
        np.random.default_rng(1).random((4, 10, 5)).astype(np.float32)
    )  # slices x rows x columns
    unreadable = h5py.ExternalLink("nowhere.h5", "/kspace")  # reading it would raise
    volume = read_volume(
        h5(tmp_path / "a.h5", reconstruction_rss=stack, kspace=unreadable, ismrmrd_header=HEADER)
    )
    assert volume.data.shape == (5, 10, 4)
    assert volume.data[3, 8, 1] == stack[1, 8, 3]
    np.testing.assert_array_equal(volume.data.transpose(2, 1, 0), stack)
    np.testing.assert_allclose(volume.spacing, [2.5, 2.1, 7.5])
    again = h5(tmp_path / "b.h5", reconstruction_rss=stack)
    assert read_volume(again).sha256 == volume.sha256  # of the reconstruction
    assert read_volume(h5(tmp_path / "c.h5", reconstruction_rss=stack + 1)).sha256 != volume.sha256


NAMED = HEADER.replace("<ismrmrdHeader>", '<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">')


def test_a_header_may_name_its_namespace(tmp_path: Path) -> None:
    stack = np.random.default_rng(1).random((4, 10, 5))
    volume = read_volume(h5(tmp_path / "a.h5", reconstruction_rss=stack, ismrmrd_header=NAMED))
    np.testing.assert_allclose(volume.spacing, [2.5, 2.1, 7.5])


@pytest.mark.parametrize(
    "header",
    [
        "<reconSpace></reconSpace>",
        HEADER.replace("10.5", "wide"),
        HEADER.replace("</ismrmrdHeader>", ""),
    ],
)
def test_an_h5_without_a_voxel_size_has_1_mm(tmp_path: Path, header: str) -> None:
    stack = np.random.default_rng(1).random((4, 10, 5))
    volume = read_volume(h5(tmp_path / "a.h5", reconstruction_rss=stack, ismrmrd_header=header))
    np.testing.assert_array_equal(volume.affine, np.eye(4))


STACK = np.random.default_rng(1).random((4, 10, 5)).astype(np.float32)
BAD_H5: dict[str, tuple[dict[str, object], str]] = {
    "no reconstruction": (
        {"kspace": STACK, "mask": [1]},
        "no reconstruction_rss .it holds kspace, mask",
    ),
    "one image": ({"reconstruction_rss": STACK[0]}, "shape 10 x 5, not slices x rows x columns"),
    "complex": ({"reconstruction_rss": STACK * 1j}, "cannot be used"),
    "NaN": ({"reconstruction_rss": STACK * np.nan}, "200 voxels are NaN"),
    "metres": (
        {"reconstruction_rss": STACK, "ismrmrd_header": HEADER.replace("7.5", "0.005")},
        "mm.*units",
    ),
    "number for a header": ({"reconstruction_rss": STACK, "ismrmrd_header": 3}, "cannot be used"),
}


@pytest.mark.parametrize("what", BAD_H5)
def test_an_h5_that_cannot_be_used_is_refused_by_name(tmp_path: Path, what: str) -> None:
    content, words = BAD_H5[what]
    with pytest.raises(ValueError, match=words) as refused:
        read_volume(h5(tmp_path / "a.h5", **content))
    assert str(refused.value).startswith(f"{tmp_path}/a.h5: ")


def test_an_h5_that_is_cut_off_is_refused_by_name(tmp_path: Path) -> None:
    content = h5(tmp_path / "a.h5", reconstruction_rss=STACK).path.read_bytes()
    with pytest.raises(ValueError, match=r"a\.h5: cannot be used .*truncated"):
        read_volume(put(tmp_path / "a.h5", content[:-200]))


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Source, Volume]:
    """An image that is stored from left to right, back to front, top to bottom, and the volume that
    it is."""
    nibabel.save(stored_as(Nifti1Image(DATA, OBLIQUE), "RAI"), tmp_path / "image.nii.gz")
    source = Source(tmp_path / "image.nii.gz")
    return source, read_volume(source)


def test_a_mask_is_read_in_the_orientation_of_its_image(
    pair: tuple[Source, Volume], tmp_path: Path
) -> None:
    _, volume = pair
    values = np.zeros(SHAPE, np.float32)
    values[6, 0, 1], values[2, 3, 4] = 1, 1
    for number, shape in enumerate((SHAPE, (*SHAPE, 1))):
        label = stored_as(Nifti1Image(values, OBLIQUE), "RAI")
        path = tmp_path / f"mask{number}.nii.gz"
        nibabel.save(Nifti1Image(np.asarray(label.dataobj).reshape(shape), label.affine), path)
        mask = read_mask(Source(path), volume)
        assert mask.dtype == bool
        np.testing.assert_array_equal(mask, values > 0)


@pytest.mark.parametrize("axes", AXES)
def test_a_mask_may_store_its_voxels_in_any_order(
    pair: tuple[Source, Volume], tmp_path: Path, axes: str
) -> None:
    _, volume = pair
    values = np.zeros(SHAPE, np.uint8)
    values[6, 0, 1] = values[2, 3, 4] = 1
    nibabel.save(stored_as(Nifti1Image(values, OBLIQUE), axes), tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(read_mask(Source(tmp_path / "mask.nii.gz"), volume), values > 0)


def test_a_mask_on_the_qform_of_its_scan_keeps_its_voxels(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    moved = OBLIQUE.copy()
    moved[0, 3] += 20
    scan = Nifti1Image(DATA, OBLIQUE)
    scan.set_qform(moved, 1)
    nibabel.save(scan, tmp_path / "scan.nii.gz")
    volume = read_volume(Source(tmp_path / "scan.nii.gz"))
    assert "scan.nii.gz: its sform and its qform lie 20 mm apart; the sform is used" in caplog.text
    values = np.zeros(SHAPE, np.uint8)
    values[2, 3, 4] = 1
    mask = Nifti1Image(values, None)
    mask.set_qform(moved, 1)
    nibabel.save(mask, tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(read_mask(Source(tmp_path / "mask.nii.gz"), volume), values > 0)


def test_forms_that_agree_are_not_spoken_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scan = Nifti1Image(DATA, OBLIQUE)
    scan.set_qform(OBLIQUE, 1)
    nibabel.save(scan, tmp_path / "scan.nii.gz")
    read_volume(Source(tmp_path / "scan.nii.gz"))
    assert not caplog.text


def test_a_soft_mask_of_a_volume_is_cut_at_half_and_said(
    pair: tuple[Source, Volume], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, volume = pair
    values = np.zeros(SHAPE, np.float32)
    values[2, 3, 1:6] = 0.1, 0.6, 1, 0.6, 0.2
    mask = read_mask(save(tmp_path / "mask.nii.gz", values, OBLIQUE), volume)
    np.testing.assert_array_equal(mask, values >= 0.5)
    assert "mask.nii.gz: 80% of its pixels above 0 (4 of 5)" in caplog.text


ONES = np.ones(SHAPE, np.uint8)
BAD_MASKS: dict[str, tuple[Callable[[Nifti1Image], bytes], str]] = {
    "other shape": (
        lambda i: Nifti1Image(DATA[:6], i.affine).to_bytes(),
        "another grid .*6 x 5 x 6 voxels and not 7 x 5 x 6",
    ),
    "flipped": (
        lambda i: Nifti1Image(
            np.eye(7, 5)[..., None] * np.ones(6), i.affine * [-1, 1, 1, 1]
        ).to_bytes(),
        "another grid .* mm apart",
    ),
    "moved": (
        lambda i: Nifti1Image(ONES, i.affine + np.eye(4, k=3)).to_bytes(),
        "another grid .* 1 mm apart; .*save it with the image's affine, else resample",
    ),
    "negative": (
        lambda i: Nifti1Image(-np.ones(SHAPE, np.float32), i.affine).to_bytes(),
        "NaN, infinite or negative",
    ),
    "NaN": (
        lambda i: Nifti1Image(changed(np.nan), i.affine).to_bytes(),
        "NaN, infinite or negative",
    ),
    "inverted": (
        lambda i: Nifti1Image((DATA > 20).astype(np.uint8), i.affine).to_bytes(),
        "of the image's border: it is inverted",
    ),
    "labels": (
        lambda i: Nifti1Image((np.eye(7, 5)[..., None] * [0, 1, 2, 0, 0, 0]), i.affine).to_bytes(),
        "several labels, its values are 0, 1, 2",
    ),
    "no orientation": (lambda _: without_orientation(), "no orientation"),
}


@pytest.mark.parametrize("what", BAD_MASKS)
def test_a_mask_that_is_not_its_image_s_is_refused_by_name(
    pair: tuple[Source, Volume], tmp_path: Path, what: str
) -> None:
    image, volume = pair
    content, words = BAD_MASKS[what]
    source = put(tmp_path / "mask.nii.gz", content(nibabel.load(image.path)))
    with pytest.raises(ValueError, match=words) as refused:
        read_mask(source, volume)
    assert str(refused.value).startswith(f"{tmp_path}/mask.nii.gz: ")
