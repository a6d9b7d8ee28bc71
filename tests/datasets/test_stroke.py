"""Strokes drawn into healthy slices: place, size, looks, and that no seam tells where they are."""

import numpy as np
import pytest
from tiny import one_thread as one_thread

from autoddpm.data.preprocess import window98
from autoddpm.datasets.implanted import template_planes
from autoddpm.datasets.phantom.phantoms import phantom_slice
from autoddpm.datasets.stroke import APPEARANCES, SHARES, contrast, implant_stroke, outlines

AREAS = (40.0, 150.0, 900.0, 4000.0)


@pytest.fixture(scope="module")
def head() -> np.ndarray:
    return window98(phantom_slice("healthy_val", 1)[0]).astype(float)


@pytest.fixture(scope="module")
def strokes(head):
    return {
        (area, n): implant_stroke(head, f"{area} {n}", area) for area in AREAS for n in range(12)
    }


def test_the_outlines_are_those_of_a_hundred_strokes():
    distances, names = outlines()
    assert distances.shape == (100, 233, 197)
    assert len(set(names)) == 100
    areas = (distances > 0).sum((1, 2))
    assert areas.min() >= 10
    assert areas.max() < 6000


def test_a_stroke_has_the_size_that_was_asked_for(strokes):
    for (area, _), stroke in strokes.items():
        assert 0.8 * area <= stroke.lesion.sum() <= 1.05 * area + 2


def test_it_lies_in_one_half_of_the_brain_outside_the_ventricles(strokes):
    hull, ventricle, side = template_planes()
    for stroke in strokes.values():
        assert (hull[stroke.lesion] < 0).all()
        assert (ventricle[stroke.lesion] > 0).all()
        assert len(np.unique(np.sign(side[stroke.lesion]))) == 1


def test_it_is_darker_inside_and_nothing_far_away_is_changed(head, strokes):
    hull, _, _ = template_planes()
    for stroke in strokes.values():
        assert stroke.image[stroke.lesion].mean() < head[stroke.lesion].mean()
        assert stroke.image.min() >= 0
        assert stroke.image.max() <= 1
        np.testing.assert_allclose(stroke.image[hull > 5], head[hull > 5], atol=0.01)
        np.testing.assert_allclose(stroke.image[hull > 15], head[hull > 15], atol=1e-9)


def test_the_looks_go_from_cavity_to_barely_visible(strokes):
    looks = {name: [] for name in APPEARANCES}
    for stroke in strokes.values():
        looks[stroke.appearance].append(contrast(stroke.image, stroke.lesion))
    assert all(looks.values())
    means = [np.mean(looks[name]) for name in APPEARANCES]
    assert means == sorted(means)
    assert means[0] < -0.4
    assert -0.35 < means[-1] < -0.05
    assert sum(SHARES) == pytest.approx(1)


def test_the_noise_inside_is_that_of_the_surroundings():
    rng = np.random.default_rng(0)
    flat = np.full((233, 197), 0.8) + 0.02 * rng.standard_normal((233, 197))
    found = []
    for n in range(8):
        stroke = implant_stroke(flat, f"noise {n}", 3000.0)
        rows = stroke.image[:, 1:-1] - 0.5 * (
            stroke.image[:, 2:] + stroke.image[:, :-2]
        )  # second differences
        reference = flat[:, 1:-1] - 0.5 * (flat[:, 2:] + flat[:, :-2])
        inside = stroke.lesion[:, 1:-1] & stroke.lesion[:, 2:] & stroke.lesion[:, :-2]
        found.append(np.median(np.abs(rows[inside])) / np.median(np.abs(reference)))
    assert 0.4 < np.median(found) < 1.3


def test_it_is_a_function_of_its_key(head):
    one, same, other = (implant_stroke(head, key, 500.0) for key in ("a", "a", "b"))
    assert np.array_equal(one.image, same.image)
    assert not np.array_equal(one.lesion, other.lesion)


def test_a_size_that_fits_nowhere_is_refused(head):
    with pytest.raises(ValueError, match="no place was found for a stroke of 40000 pixels"):
        implant_stroke(head, "a", 40000.0)
