"""The page of a scan in a browser: volumes load, the slider acts, no network is asked."""

import json
import re
import shutil
from base64 import b64decode
from gzip import decompress
from io import BytesIO
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import sync_playwright
from scan_files import write_scan, write_small_weights

from autoddpm import cli
from autoddpm.prediction.page import outline
from autoddpm.prediction.result import NOTICE

pytestmark = pytest.mark.usefixtures("one_thread")
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
FLAGS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of one scan."""
    here = tmp_path_factory.mktemp("page")
    weights = write_small_weights(here / "tiny.safetensors")
    scan = write_scan(here / "a&b.nii.gz")
    arguments = [scan, "-o", here / "out", "--weights", weights, "--threshold", 0.05]
    assert cli.main(["predict", *map(str, arguments)]) == 0
    return here / "out" / "a&b"


def data_of(page: str) -> dict:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_the_page_holds_the_volumes_that_were_written(folder: Path) -> None:
    page = (folder / "report.html").read_text("utf-8")
    data = data_of(page)
    assert NOTICE in page
    assert "a&amp;b" in page
    assert "BSD 2-Clause License" in page
    assert "origin given" in page  # of the threshold
    assert "done brain:nonzero" in page
    held = nibabel.Nifti1Image.from_bytes(decompress(b64decode(data["volumes"]["map"])))
    written = nibabel.load(folder / "anomaly_map.nii.gz")
    np.testing.assert_array_equal(np.asarray(held.dataobj), np.asarray(written.dataobj))
    np.testing.assert_array_equal(held.affine, written.affine)
    at = np.linalg.inv(written.affine) @ [*data["centre"], 1]
    place = tuple(np.round(at[:3]).astype(int))
    assert np.asarray(written.dataobj)[place] == np.asarray(written.dataobj).max()
    assert set(data["volumes"]) == {"scan", "map", "outline", "pseudo_healthy"}


def test_the_picture_has_a_row_of_three_for_each_slice(folder: Path) -> None:
    picture = Image.open(BytesIO((folder / "mosaic.png").read_bytes()))
    assert picture.size == (3 * 256, 5 * 256)


def test_an_outline_is_the_rim_within_a_plane() -> None:
    mask = np.zeros((9, 9, 5), bool)
    mask[2:7, 2:7, 1:3] = True
    rim = outline(mask, np.diag([1, 1, 2, 1]))
    assert rim[..., 1].sum() == 25 - 9
    assert rim[..., 2].sum() == 25 - 9
    upright = outline(mask.transpose(2, 0, 1), np.eye(4)[[1, 2, 0, 3]])
    np.testing.assert_array_equal(upright, rim.transpose(2, 0, 1))


@pytest.mark.slow
def test_volumes_load_and_the_slider_acts_in_a_browser(folder: Path) -> None:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine (chromium, chromium-browser or google-chrome)")
    data = data_of((folder / "report.html").read_text("utf-8"))
    values = np.asarray(nibabel.load(folder / "anomaly_map.nii.gz").dataobj)
    asked: list[str] = []
    complaints: list[str] = []
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = chromium.new_context(offline=True, viewport={"width": 800, "height": 500}).new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.set_default_timeout(120_000)
        page.goto((folder / "report.html").resolve().as_uri())
        page.wait_for_selector("body[data-ready], body[data-failed]")
        assert page.locator("body[data-ready]").count() == 1, page.locator("#place").inner_text()

        def told() -> tuple[float, float]:
            numbers = re.findall(r"[\d.]+", page.locator("#flagged").inner_text())
            return float(numbers[0]), float(numbers[1])

        def above(threshold: float) -> float:
            return float((values > threshold).sum() * data["voxel_ml"])

        assert told() == (pytest.approx(0.05, rel=0.01), pytest.approx(above(0.05), abs=0.006))
        place = page.locator("#place").inner_text()  # mm to the right, front, up: map value
        *millimetres, at_crosshair = map(float, re.findall(r"-?[\d.]+", place))
        assert millimetres == pytest.approx(data["centre"], abs=0.06)
        assert at_crosshair == pytest.approx(float(values.max()), rel=0.01)
        page.locator("#threshold").fill("700")
        moved = data["top"] * 0.7**2
        assert told()[0] == pytest.approx(moved, rel=0.01)
        assert told()[1] == pytest.approx(above(moved), abs=0.006)
        page.locator("#map").uncheck()
        chromium.close()
    assert complaints == []
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
