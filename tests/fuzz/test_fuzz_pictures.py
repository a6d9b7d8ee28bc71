"""Slices and masks of any kind of file: read as they are, or refused by name."""

import gzip
import io
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from fuzzed import damage, examples, or_refused
from hypothesis import given
from hypothesis import strategies as st
from nibabel.orientations import apply_orientation, inv_ornt_aff
from PIL import Image

from autoddpm.data.image_file import MIN_SIDE, read_image, read_lesion
from autoddpm.data.mask import mask_of

DTYPES = ["u1", "i1", "<i2", ">i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8", "c8"]
NO_NUMBER = float("nan")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pictures")


def values(seed: int, shape: tuple[int, ...], dtype: str = "f4") -> np.ndarray:
    """Many different values, as an image has."""
    drawn = np.random.default_rng(seed).integers(0, 120, shape)
    return drawn.astype(dtype)


@st.composite
def affines(draw: st.DrawFn) -> np.ndarray:
    """Axes in any order and direction, a little oblique or not at all; sometimes broken."""
    order, signs = draw(st.permutations(range(3))), draw(st.tuples(*[st.sampled_from([-1, 1])] * 3))
    sides = draw(st.sampled_from([(1, 1, 1), (1, 1, 1), (0.9, 0.9, 5), (1.2, 2.4, 1), (1e-9,) * 3]))
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3)[list(order)] * signs * np.array(sides)
    affine[:3, 3] = draw(st.tuples(*[st.floats(-90, 90)] * 3))
    for value in draw(st.lists(st.sampled_from([0, NO_NUMBER, np.inf, 1e30]), max_size=1)):
        affine[:3, draw(st.integers(0, 3))] = value
    if draw(st.booleans()):
        affine[:3, :3] = affine[:3, :3] @ turned(draw(st.floats(-0.2, 0.2)))
    return affine


def turned(angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def nifti(
    data: np.ndarray, affine: np.ndarray, codes: tuple[int, int] = (1, 1), two: bool = False
) -> bytes:
    """A NIfTI file of data as they are.

    codes: of its sform and its qform.
    """
    image = (nibabel.Nifti2Image if two else nibabel.Nifti1Image)(data, None, dtype=data.dtype)
    image.header["sform_code"], image.header["qform_code"] = codes
    for row, name in zip(affine, ("srow_x", "srow_y", "srow_z"), strict=False):
        image.header[name] = row
    image.header["pixdim"][1:4] = np.linalg.norm(affine[:3, :3], axis=0)
    image = type(image)(data, None, image.header, dtype=data.dtype)
    return image.to_bytes()


@examples(100)
@given(
    seed=st.integers(0, 99),
    sides=st.lists(st.integers(MIN_SIDE - 1, 21), min_size=2, max_size=2),
    ones=st.lists(st.integers(0, 2), max_size=2),
    depth=st.sampled_from([1, 1, 1, 2]),
    dtype=st.sampled_from(DTYPES),
    affine=affines(),
    codes=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    two=st.booleans(),
    suffix=st.sampled_from([".nii", ".nii.gz", ".NII"]),
    harm=damage(),
)
def test_a_nifti_slice_is_right_or_refused(
    folder, seed, sides, ones, depth, dtype, affine, codes, two, suffix, harm
):
    shape = list(sides)
    for axis in ones:
        shape.insert(axis, depth)
    data = values(seed, tuple(shape), dtype)
    whole = nifti(data, affine, codes, two)
    content = harm(whole)
    path = folder / f"slice{suffix}"
    path.write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)
    read = or_refused(lambda: read_image(path), path)
    if read is not None:
        assert read.ndim == 2
        assert np.isfinite(read).all()
    if read is not None and content == whole:
        assert sorted(read.shape) == sorted(sides)
        np.testing.assert_array_equal(np.sort(read, None), np.sort(data, None))


@examples(60)
@given(
    seed=st.integers(0, 99),
    order=st.permutations(range(3)),
    signs=st.tuples(*[st.sampled_from([-1, 1])] * 3),
    affine=affines(),
    shift=st.sampled_from([0, 0, 0, 0.1, 0.4, 20]),
)
def test_a_mask_lies_where_it_was_drawn(folder, seed, order, signs, affine, shift):
    image = values(seed, (17, 19, 1))
    image[4:9, 11:14] = 200
    drawn = (image == 200).astype("u1")
    flips = np.stack([np.array(order, float), np.array(signs, float)], axis=1)
    stored = apply_orientation(drawn, flips)
    placed = affine @ inv_ornt_aff(flips, drawn.shape)
    placed[:3, 3] += shift * np.linalg.norm(affine[:3, :3], axis=0).min()
    one, other = folder / "image.nii", folder / "image_mask.nii"
    one.write_bytes(nifti(image, affine))
    other.write_bytes(nifti(stored, placed, (1, 0)))
    shown = or_refused(lambda: read_image(one), one)
    if shown is None:
        return
    mask = or_refused(lambda: read_lesion(other, shown, one), other)
    assert mask is None or shift < 0.4
    assert mask is not None or shift > 0.1
    if mask is not None:
        np.testing.assert_array_equal(mask.pixels, shown == 200)


def npy(data: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, data, allow_pickle=True)
    return file.getvalue()


@examples(80)
@given(
    seed=st.integers(0, 99),
    shape=st.lists(st.sampled_from([0, 1, 2, 3, 4, 5, 16, 17]), max_size=4)
    | st.sampled_from([(16, 17), (17, 16, 1), (1, 16, 17), (16, 17, 3), (16, 17, 4)]),
    dtype=st.sampled_from([*DTYPES, "?", "f2", "g", "O", "U3", "S2", "M8[s]", "m8[s]", "i2,f4"]),
    harm=damage(),
)
def test_an_npy_slice_is_right_or_refused(folder, seed, shape, dtype, harm):
    data = values(seed, tuple(shape), "i2").astype(dtype)
    whole = npy(data)
    content = harm(whole)
    path = folder / "slice.npy"
    path.write_bytes(content)
    read = or_refused(lambda: read_image(path), path)
    if read is not None:
        assert read.ndim == 2
        assert np.isfinite(read).all()
    if read is not None and content == whole:
        np.testing.assert_array_equal(read, data.astype("f4").squeeze().reshape(read.shape))


@examples(80)
@given(
    seed=st.integers(0, 99),
    sides=st.tuples(st.integers(MIN_SIDE - 1, 20), st.integers(MIN_SIDE - 1, 20)),
    mode=st.sampled_from(["L", "LA", "RGB", "RGBA", "P", "1", "I;16"]),
    pages=st.sampled_from([1, 1, 1, 2]),
    harm=damage(),
)
def test_a_png_slice_is_right_or_refused(folder, seed, sides, mode, pages, harm):
    grey = [values(seed + n, sides, "u1") for n in range(pages)]
    pictures = [
        Image.fromarray(g.astype("u2")) if mode == "I;16" else Image.fromarray(g).convert(mode)
        for g in grey
    ]
    file = io.BytesIO()
    pictures[0].save(file, "png", save_all=pages > 1, append_images=pictures[1:])
    content = harm(file.getvalue())
    path = folder / "slice.png"
    path.write_bytes(content)
    read = or_refused(lambda: read_image(path), path)
    if read is not None and content == file.getvalue():
        assert pages == 1
        np.testing.assert_array_equal(read, grey[0])
    elif read is not None:
        assert read.ndim == 2
        assert np.isfinite(read).all()


def several_pages(kind: str) -> bytes:
    pages = [Image.fromarray(values(n, (20, 20), "u1")) for n in range(3)]
    file = io.BytesIO()
    pages[0].save(file, kind, save_all=True, append_images=pages[1:])
    return file.getvalue()


def npz() -> bytes:
    file = io.BytesIO()
    np.savez(file, values(0, (20, 20)))
    return file.getvalue()


OTHERS: dict[str, Callable[[], bytes]] = {
    "tiff": lambda: several_pages("tiff"),
    "gif": lambda: several_pages("gif"),
    "webp": lambda: several_pages("webp"),
    "npz": npz,
    "npy": lambda: npy(values(0, (20, 20))),
    "nifti": lambda: nifti(values(0, (20, 20, 1)), np.eye(4)),
    "text": lambda: b"a slice\n" * 80,
    "zeros": lambda: bytes(4096),
    "nothing": bytes,
    "gzip of nothing": lambda: gzip.compress(b""),
}


@examples(60)
@given(
    kind=st.sampled_from(sorted(OTHERS)),
    suffix=st.sampled_from([".png", ".npy", ".nii", ".nii.gz"]),
    harm=damage(),
)
def test_another_kind_of_file_is_right_or_refused(folder, kind, suffix, harm):
    path = folder / f"other{suffix}"
    path.write_bytes(harm(OTHERS[kind]()))
    read = or_refused(lambda: read_image(path), path)
    assert read is None or kind in ("npy", "nifti"), "it holds several slices, or none"


@examples(80)
@given(
    seed=st.integers(0, 99),
    levels=st.lists(
        st.sampled_from([0, 0, 1, 1, 2, 128, 255, 0.5, -0.1, -3, NO_NUMBER, np.inf, 1e30, 3e38]),
        min_size=1,
        max_size=5,
    ),
    shape=st.sampled_from([(1, 1), (7, 9), (30, 30), (5, 6, 7)]),
    share=st.floats(0, 1),
    above_0=st.booleans(),
)
def test_a_mask_is_its_upper_half_or_refused(seed, levels, shape, share, above_0):
    rng = np.random.default_rng(seed)
    picture = np.where(rng.random(shape) < share, rng.choice(levels, shape), levels[0])
    try:
        mask = mask_of(picture.astype("f4"), above_0)
    except ValueError:
        return
    assert mask.pixels.shape == shape
    top = picture.max()
    least = 0 if above_0 or top == 0 else top / 2
    inside = picture > 0 if above_0 or top == 0 else picture >= least
    np.testing.assert_array_equal(mask.pixels, inside)
