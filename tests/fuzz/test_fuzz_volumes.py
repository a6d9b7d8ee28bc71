"""Volumes of any kind of file, their masks and archives: as they are, or refused by name."""

import gzip
import io
import tarfile
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pytest
from fuzzed import damage, examples, or_refused
from hypothesis import given
from hypothesis import strategies as st
from nibabel.orientations import apply_orientation, inv_ornt_aff
from test_fuzz_pictures import DTYPES, affines, nifti, values

from autoddpm.data.image_file import read_image
from autoddpm.preparation.volume import Source, members, read_mask, read_volume

HEADER = (
    "<ismrmrdHeader xmlns='http://www.ismrm.org/ISMRMRD'><encoding><reconSpace>"
    "<matrixSize><x>{n}</x><y>6</y><z>1</z></matrixSize>"
    "<fieldOfView_mm><x>{mm}</x><y>6</y><z>5</z></fieldOfView_mm>"
    "</reconSpace></encoding></ismrmrdHeader>"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("volumes")


def is_canonical(affine: np.ndarray) -> bool:
    return nibabel.aff2axcodes(affine) == ("R", "A", "S")


def mgz(data: np.ndarray, affine: np.ndarray) -> bytes:
    with np.errstate(all="ignore"):
        return nibabel.MGHImage(data, affine).to_bytes()


@examples(100)
@given(
    seed=st.integers(0, 99),
    shape=st.lists(st.integers(1, 7), min_size=2, max_size=5) | st.just([5, 6, 7]),
    dtype=st.sampled_from(DTYPES),
    affine=affines(),
    codes=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    kind=st.sampled_from(["nifti", "nifti", "nifti2", "mgz"]),
    is_gzipped=st.booleans(),
    harm=damage(),
)
def test_a_volume_is_right_or_refused(
    folder, seed, shape, dtype, affine, codes, kind, is_gzipped, harm
):
    data = values(seed, tuple(shape), "i4" if kind == "mgz" else dtype)
    try:
        whole = mgz(data, affine) if kind == "mgz" else nifti(data, affine, codes, kind[-1] == "2")
    except (ValueError, nibabel.spatialimages.HeaderDataError):  # of the writer
        return
    content = harm(whole)
    path = folder / (f"v.{'mgz' if kind == 'mgz' else 'nii.gz'}")
    path.write_bytes(gzip.compress(content) if is_gzipped else content)
    volume = or_refused(lambda: read_volume(Source(path)), path)
    if volume is None:
        return
    assert np.isfinite(volume.data).all()
    assert is_canonical(volume.affine)
    if content == whole:
        assert sorted(volume.data.shape) == sorted(shape[:3])
        np.testing.assert_array_equal(np.sort(volume.data, None), np.sort(data, None))


@examples(40)
@given(
    shape=st.lists(st.integers(0, 6), min_size=1, max_size=4) | st.just([3, 5, 6]),
    dtype=st.sampled_from(["f4", "f8", "u2", "c8", "S3"]),
    mm=st.sampled_from(["6", "0", "-6", "nan", "1e9", "", "six"]),
    n=st.sampled_from(["6", "0", "-1", ""]),
    about=st.sampled_from(["xml", "none", "bytes", "number", "broken"]),
    harm=damage(),
)
def test_an_h5_is_right_or_refused(folder, shape, dtype, mm, n, about, harm):
    file, stack = io.BytesIO(), values(0, tuple(shape), "i4").astype(dtype)
    xml = HEADER.format(n=n, mm=mm)
    headers = {"xml": xml, "bytes": b"\xff\xfe", "number": 3, "broken": xml[:90]}
    with h5py.File(file, "w") as h5:
        h5["reconstruction_rss"] = stack
        if about in headers:
            h5["ismrmrd_header"] = headers[about]
    whole = file.getvalue()
    content = harm(whole)
    path = folder / "v.h5"
    path.write_bytes(content)
    volume = or_refused(lambda: read_volume(Source(path)), path)
    if volume is not None:
        assert np.isfinite(volume.data).all()
        assert is_canonical(volume.affine)
    if volume is not None and content == whole:
        np.testing.assert_array_equal(volume.data, stack.transpose(2, 1, 0))


@examples(40)
@given(
    seed=st.integers(0, 99),
    order=st.permutations(range(3)),
    signs=st.tuples(*[st.sampled_from([-1, 1])] * 3),
    affine=affines(),
    shift=st.sampled_from([0, 0, 0.1, 0.4, 20]),
    harm=damage(),
)
def test_a_volume_s_mask_lies_where_it_was_drawn(folder, seed, order, signs, affine, shift, harm):
    image = values(seed, (6, 7, 8))
    image[2:4, 1:4, 3:7] = 200
    drawn = (image == 200).astype("u1")
    flips = np.stack([np.array(order, float), np.array(signs, float)], axis=1)
    placed = affine @ inv_ornt_aff(flips, drawn.shape)
    placed[:3, 3] += shift * np.linalg.norm(affine[:3, :3], axis=0).min()
    one, other = folder / "image.nii", folder / "mask.nii"
    whole = nifti(apply_orientation(drawn, flips), placed, (1, 0))
    content = harm(whole)
    one.write_bytes(nifti(image, affine))
    other.write_bytes(content)
    volume = or_refused(lambda: read_volume(Source(one)), one)
    if volume is None:
        return
    mask = or_refused(lambda: read_mask(Source(other), volume), other)
    assert mask is None or mask.shape == volume.data.shape
    if content == whole:
        assert (mask is not None) == (shift < 0.25)
        assert mask is None or (mask == (volume.data == 200)).all()


@examples(20)
@given(seed=st.integers(0, 99), sides=st.permutations([16, 17, 18]), harm=damage())
def test_a_volume_for_a_network_is_right_or_refused(folder, seed, sides, harm):
    path = folder / "whole.nii"
    path.write_bytes(harm(nifti(values(seed, tuple(sides)), np.eye(4))))
    read = or_refused(lambda: read_image(path, 3), path)
    assert read is None or (read.ndim == 3 and np.isfinite(read).all())


@examples(60)
@given(
    sizes=st.lists(st.integers(0, 1100), max_size=4),
    share=st.floats(0, 1),
    form=st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    at_a_block=st.booleans(),
)
def test_a_tar_that_is_cut_lists_all_or_is_refused(folder, sizes, share, form, at_a_block):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as tar:
        for number, size in enumerate(sizes):
            info = tarfile.TarInfo(f"IXI{number:03d}-Guys-0001-T1.nii.gz")
            info.size = size
            tar.addfile(info, io.BytesIO(bytes([number + 1]) * size))
    cut = int(share * len(file.getvalue()))
    path = folder / "IXI-T1.tar"
    path.write_bytes(file.getvalue()[: cut // 512 * 512 if at_a_block else cut])
    found = or_refused(lambda: members(path), path)
    if found is not None:
        assert [one.read_bytes() for one in found] == [
            bytes([number + 1]) * size for number, size in enumerate(sizes)
        ]
