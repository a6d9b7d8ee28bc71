"""Phantoms: what is drawn, that it is always the same, and that a folder is whole or absent."""

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import ndimage

from autoddpm.data.preprocess import window98
from autoddpm.data.sample import Record
from autoddpm.datasets.phantom import phantoms as phantom
from autoddpm.datasets.phantom.anatomy import SHAPE, SLICE_Z, Head, SmoothField
from autoddpm.datasets.phantom.phantoms import (
    GROUPS,
    phantom_slice,
    phantoms,
)

COUNTS = {"train": 3, "val": 1, "test_healthy": 2, "test_lesion": 9}
FEW = {"size": 32, "train": 1, "val": 0, "test_healthy": 0, "test_lesion": 1, "processes": 1}
AXES = (np.arange(197.0), np.arange(233.0), np.array([float(SLICE_Z)]))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    return phantoms(tmp_path_factory.mktemp("drawn"), size=64, processes=1, **COUNTS)


def pixels(path: Path | None) -> np.ndarray:
    assert path is not None
    return np.asarray(Image.open(path))


def folder_of(records: list[Record]) -> Path:
    return records[0].images["T1"].parent.parent


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_the_records_say_who_is_healthy_and_in_which_split(drawn):
    assert len({record.id for record in drawn}) == len({record.subject for record in drawn}) == 15
    assert Counter(record.split for record in drawn) == {"train": 3, "val": 1, "test": 11}
    for record in drawn:
        assert record.id == f"phantom/{record.images['T1'].stem}"
        assert (record.lesion is not None) == record.id.startswith("phantom/lesion_test_")


def test_one_process_and_two_give_the_same_bytes(drawn, tmp_path):
    again = phantoms(tmp_path, size=64, processes=2, **COUNTS)
    assert folder_of(again).name == folder_of(drawn).name
    assert files_of(folder_of(again)) == files_of(folder_of(drawn))


def test_no_two_subjects_groups_or_seeds_share_a_brain():
    slices = [phantom_slice(group, 0, lesion=False)[0] for group in GROUPS]
    slices += [phantom_slice("healthy_train", 1)[0], phantom_slice("healthy_train", 0, seed=1)[0]]
    for i, one in enumerate(slices):
        for other in slices[:i]:
            assert np.mean(np.abs(one - other) > 0.1) > 0.05


def test_a_third_of_the_lesions_falls_in_each_size_group(tmp_path):
    size = 64
    records = phantoms(
        tmp_path, size=size, train=0, val=0, test_healthy=0, test_lesion=12, processes=1
    )
    counted = [np.count_nonzero(pixels(record.lesion)) for record in records]
    assert list(pd.read_csv(folder_of(records) / "index.csv")["lesion_pixels"]) == counted
    at_128 = np.array(counted) * (128 / size) ** 2
    assert np.count_nonzero((at_128 > 1) & (at_128 <= 71)) == 4
    assert np.count_nonzero((at_128 > 71) & (at_128 <= 570)) == 4
    assert np.count_nonzero(at_128 > 570) == 4


@pytest.mark.parametrize("number", range(3))
def test_a_lesion_lies_in_one_hemisphere_outside_the_ventricles(number):
    cut = Head(0, GROUPS.index("lesion_test"), number).cut(AXES)
    lesion = phantom_slice("lesion_test", number)[1] >= 0.5
    hull, ventricle, side = (
        np.rot90(part[..., 0])[lesion] for part in (cut.hull, cut.ventricle, cut.side)
    )
    assert hull.max() < 0 < ventricle.min()
    assert side.min() > 0 or side.max() < 0


@pytest.mark.parametrize("number", range(3))
def test_a_lesion_is_darker_than_its_twin_and_the_rest_is_equal(number):
    image, strength = phantom_slice("lesion_test", number)
    twin, none = phantom_slice("lesion_test", number, lesion=False)
    lesion = strength >= 0.5
    assert none.max() == 0
    assert 0 <= strength.min() < 0.01 < 0.5 <= strength.max() <= 1
    assert image[lesion].mean() < twin[lesion].mean() - 0.15
    assert (image <= twin + 1e-9).mean() > 0.999
    far = ndimage.distance_transform_edt(~lesion) > 12
    assert strength[far].mean() < 1e-3
    np.testing.assert_allclose(image[strength < 1e-4], twin[strength < 1e-4], atol=1e-3)


def test_slices_are_eight_bit_squares_that_windowing_keeps(drawn):
    for record in drawn:
        image = pixels(record.images["T1"])
        assert image.shape == (64, 64)
        assert image.dtype == np.uint8
        assert image.max() == 255
        np.testing.assert_array_equal(window98(image), (image / 255).astype(np.float32))
        assert np.median(image[28:36, 8:56]) > 120  # tissue in the middle
        assert image[0].max() < 100  # the scalp is not cut off
        assert np.median(image[:8, :8]) == 0
        if record.lesion is not None:
            assert set(np.unique(pixels(record.lesion))) == {0, 255}


def test_the_montage_outlines_lesions_below_healthy_slices(drawn):
    shown = pixels(folder_of(drawn) / "montage.png").astype(int)
    coloured = np.ptp(shown, axis=2) > 60
    assert shown.shape == (3 * 160, 8 * 160, 3)  # one row of 6 healthy, two rows of 9 lesion slices
    assert not coloured[:160].any()
    assert all(coloured[160:320, 160 * i : 160 * (i + 1)].any() for i in range(8))


def test_phantoms_that_are_there_are_not_drawn_again(drawn, monkeypatch):
    monkeypatch.setattr(phantom, "atlas", lambda: pytest.fail("drawn again"))
    assert phantoms(folder_of(drawn).parent, size=64, **COUNTS) == drawn


def test_an_interrupted_drawing_leaves_nothing_and_can_restart(tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(phantom, "overview", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            phantoms(tmp_path, **FEW)
    assert list(tmp_path.iterdir()) == []
    assert len(phantoms(tmp_path, **FEW)) == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 16}, "size=16"),
        ({"seed": -1}, "seed=-1"),
        ({"train": -1}, "'healthy_train': -1"),
        ({"train": 0, "test_lesion": 0}, "nor all counts 0"),
    ],
)
def test_impossible_settings_are_refused_before_any_writing(settings, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        phantoms(tmp_path, **(FEW | settings))
    assert list(tmp_path.iterdir()) == []


def test_a_smooth_field_has_unit_variance_and_can_be_cut():
    field = SmoothField(np.random.default_rng(0), 7)
    every = tuple(np.arange(0.0, n, 4) for n in SHAPE)
    whole = field(every)
    assert abs(whole.std() - 1) < 0.1
    part = field((every[0][5:9], every[1], every[2][[20]]))
    np.testing.assert_allclose(part, whole[5:9][:, :, [20]], atol=1e-12)
    assert (
        np.abs(np.diff(field((np.arange(0.0, 197, 0.1), *(np.array([50.0]),) * 2)), axis=0)).max()
        < 0.2
    )
    field.coefficients = np.ones_like(field.coefficients)
    np.testing.assert_allclose(field(every), 1, atol=1e-12)


def test_an_unknown_group_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"lesion_train.*healthy_train, .*, lesion_test"):
        phantom_slice("lesion_train", 0)
