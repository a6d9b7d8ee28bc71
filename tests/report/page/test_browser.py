"""The page's slice browser: what it holds, and that it acts in a browser."""

import re
import shutil
import zlib
from base64 import b64decode
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, sync_playwright
from report_runs import (
    SIZE,
    SLICES,
    report,
)
from report_runs import measured as measured

from autoddpm.metrics.localization import dice
from autoddpm.report.figures.examples import Choice
from autoddpm.report.figures.figure import FigureRows, Kind
from autoddpm.report.figures.theme import DARK, LIGHT
from autoddpm.report.page.browser import BORDER, SIDE
from autoddpm.report.page.browser_data import (
    browser_data,
    choose_slices,
    spread_slices,
    threshold_levels,
)
from autoddpm.report.read import read_pictures
from autoddpm.report.select import Selection
from autoddpm.runs.row import Row, read_rows

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


@pytest.fixture(scope="module")
def rows(measured: Path) -> dict[str, Row]:
    return {row.label: row for row in read_rows(measured)[0]}


def maps_of(row: Row) -> dict[str, np.ndarray]:
    with np.load(row.folder / "maps.npz") as archive:
        return dict(archive)


def unpacked(text: str) -> np.ndarray:
    return np.frombuffer(zlib.decompress(b64decode(text)), np.uint8).reshape(SIZE, SIZE)


def browsed(rows: Sequence[Row], number: int) -> tuple[dict | None, list[str]]:
    """What the browser shows of rows, and what it leaves out."""
    choice, figure = choose_slices(rows, number), FigureRows("", "", {"rows": Kind(rows)})
    read = read_pictures(Selection(rows, [], {"browser": figure}, Choice(), choice, []))
    return browser_data(read.browsed, read.rows), [*choice.remarks, *read.remarks]


def test_browser_and_map_flag_the_same_pixels(rows):
    every = list(rows.values())
    data, remarks = browsed(every, 60)
    assert not remarks
    assert [head["title"] for head in data["rows"]] == list(rows)
    for n, row in enumerate(every):
        arrays, head = maps_of(row), data["rows"][n]
        best, five = row.metrics["lesion/best_threshold"], row.thresholds["healthy_fpr5"]
        presets = head["presets"]
        for one in data["slices"]:
            i = list(arrays["id"]).index(one["id"])
            codes, heat = unpacked(one["rows"][n]["map"]), arrays["anomaly_map"][i]
            assert np.array_equal(codes > presets["highest Dice of all lesions"], heat >= best)
            assert np.array_equal(codes > presets["5 % of healthy validation pixels"], heat > five)
            for k in range(0, len(head["levels"]), 9):
                assert (
                    np.mean((codes > k) != (heat >= head["levels"][k])) < 1e-3
                )  # printed with six digits
            assert np.array_equal(unpacked(one["lesion"]) > 0, arrays["lesion"][i])
            assert (
                np.abs(unpacked(one["input"]) / 255 - arrays["image"][i]).max() <= 0.5 / 255 + 1e-6
            )
            reconstruction = arrays["reconstruction"][i].clip(0, 1)
            assert (
                np.abs(unpacked(one["rows"][n]["reconstruction"]) / 255 - reconstruction).max()
                <= 0.5 / 255 + 1e-6
            )
            assert ("mask" in one["rows"][n]) == (row.label == "AutoDDPM")
        healthy = arrays["anomaly_map"][:2]
        k = presets["5 % of healthy validation pixels"]
        assert head["healthy"][k] == pytest.approx((healthy > five).mean(), abs=1e-6)


def test_levels_rise_hold_the_presets_and_flag_geometric_shares():
    maps = np.random.default_rng(0).random((2, 100, 100)).astype(np.float32)
    levels = threshold_levels(maps, [np.float32(0.123), np.float32(0.5)])
    assert np.all(np.diff(levels) > 0)
    assert len(levels) < 255
    assert {np.float32(0.123), np.float32(0.5)} <= set(levels)
    assert levels[0] == maps.min()
    assert (maps >= levels[-1]).sum() <= 2
    assert threshold_levels(np.zeros((1, 4, 4)), []).tolist() == [0.0]


def test_the_slices_are_of_all_sizes_from_best_to_worst_found():
    groups = ["healthy"] * 30 + ["small"] * 2 + ["large"] * 20
    slices = pd.DataFrame(
        {"id": [f"{n:02d}" for n in range(52)], "size_group": groups, "max_dice": range(52)}
    )
    slices["max_dice"] = slices["max_dice"].where(slices["size_group"] != "healthy") / 52
    chosen = slices.set_index("id").loc[spread_slices(slices, 12)]
    assert chosen["size_group"].value_counts().to_dict() == {"healthy": 5, "small": 2, "large": 5}
    assert not chosen.index.has_duplicates
    large = chosen.loc[chosen["size_group"] == "large", "max_dice"]
    assert (large.min(), large.max()) == (32 / 52, 51 / 52)
    assert np.diff(large).max() <= 5 / 52 + 1e-9
    assert len(spread_slices(slices, 1000)) == 52
    assert len(spread_slices(slices, 1)) == 1


def test_slices_left_out_and_rows_with_broken_maps_are_named(measured, tmp_path):
    copied = tmp_path / "evaluate"
    shutil.copytree(measured, copied)
    path = copied / "anoddpm-t100" / "maps.npz"
    path.write_bytes(path.read_bytes()[:-30])
    data, remarks = browsed(read_rows(copied)[0], 4)
    assert [head["title"] for head in data["rows"]] == ["AnoDDPM (t=300)", "AutoDDPM"]
    assert len(data["slices"]) == 4
    assert any("4 of 11 slices" in remark for remark in remarks)
    assert any(f"AnoDDPM (t=100) is not shown: {path}" in remark for remark in remarks)
    assert browsed([], 60) == (None, [])


def test_many_rows_show_fewer_slices_to_keep_the_page_light(rows, monkeypatch):
    monkeypatch.setattr(
        "autoddpm.report.page.browser_data.MOST_PIXELS", 5 * SIZE * SIZE * (1 + 2 * 3)
    )
    data, remarks = browsed(list(rows.values()), 60)
    assert len(data["slices"]) == 5
    assert "5 of 11 slices" in remarks[0]


class Opened:
    """The page in a browser without a network, and what it asked for and complained of."""

    address = ""

    def __init__(self, page: Page) -> None:
        self.page, self.asked, self.complaints = page, [], []
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda line: line.type == "error" and self.complaints.append(line.text))

    @property
    def browser(self) -> Locator:
        return self.page.locator("#browser-chart")

    def choose(self, n: int, label: str) -> None:
        """0: method, 1: order, 2: slice, 3: threshold."""
        self.browser.locator("select").nth(n).select_option(label=label)
        self.settle()

    def chosen(self, n: int) -> str:
        return (
            self.browser.locator("select").nth(n).evaluate("s => s.selectedOptions[0]?.text ?? ''")
        )

    def slices(self) -> list[str]:
        return self.browser.locator("select").nth(2).locator("option").all_text_contents()

    def press(self, name: str) -> None:
        self.browser.get_by_role("button", name=name, exact=True).click()
        self.settle()

    def settle(self) -> None:
        """Wait until nothing changes any more."""
        seen = None
        for _ in range(40):
            if seen == (seen := self.browser.inner_text() + self.drawn()):
                return
            self.page.wait_for_timeout(120)
        raise AssertionError("the page does not come to rest")

    def drawn(self) -> str:
        return self.browser.locator("canvas").first.evaluate("canvas => canvas.toDataURL()")

    def said(self) -> str:
        return self.browser.get_by_text("Flagged:").inner_text()

    def flagged(self) -> int:
        return int(re.search(r"Flagged: (\d+) pixels", self.said())[1])

    def picture(self) -> np.ndarray:
        """What is drawn, (SIDE, SIDE, 3)."""
        whole = np.asarray(
            Image.open(BytesIO(b64decode(self.drawn().split(",")[1]))).convert("RGB")
        ).astype(float)
        return whole[BORDER : BORDER + SIDE, BORDER : BORDER + SIDE]


@pytest.fixture(scope="module")
def opened(measured: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine (chromium, chromium-browser or google-chrome)")
    runs = tmp_path_factory.mktemp("page") / "evaluate"
    shutil.copytree(measured, runs)
    made = report(runs, "report.resamples=20")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = chromium.new_context(
            viewport={"width": 1280, "height": 1400}, offline=True, color_scheme="light"
        )
        context.set_default_timeout(10_000)
        opened = Opened(context.new_page())
        opened.address = made.page.resolve().as_uri()
        opened.page.goto(opened.address)
        opened.page.get_by_text("Flagged:").wait_for()
        yield opened
        chromium.close()


def test_the_page_opens_without_a_network_and_without_complaint(opened):
    assert opened.asked == [opened.address]
    assert opened.complaints == []
    assert opened.page.locator("#precision_recall canvas").count() >= 1
    for name in ("noise_paradox", "dice_by_size", "figure4"):
        assert opened.page.locator(f"#{name} img").count() == 1


def test_the_filter_leaves_the_slices_of_the_chosen_sizes(opened):
    assert len(opened.slices()) == len(SLICES)
    for size in ("healthy", "medium", "large"):
        opened.press(size)
    assert len(opened.slices()) == 3
    assert all(", small," in name for name in opened.slices())
    assert ", small," in opened.chosen(2)
    opened.press("small")
    assert opened.slices() == []
    assert opened.browser.get_by_text("No slice of these sizes").is_visible()
    for size in ("healthy", "small", "medium", "large"):
        opened.press(size)
    assert len(opened.slices()) == len(SLICES)


def test_the_list_is_sorted_by_the_dice_of_the_chosen_method(opened):
    def found() -> list[float]:
        return [float(name.split("Dice ")[1]) for name in opened.slices() if "Dice" in name]

    opened.choose(0, "AnoDDPM (t=300)")
    opened.choose(1, "best found first")
    best = found()
    assert best == sorted(best, reverse=True)
    assert len(set(best)) > 3
    assert all("healthy" in name for name in opened.slices()[-2:])
    opened.choose(1, "worst found first")
    assert found() == best[::-1]
    opened.choose(0, "AutoDDPM")
    assert found() != best[::-1]
    opened.choose(1, "name")
    assert opened.slices() == sorted(opened.slices())


def test_next_and_previous_go_through_the_list_and_round(opened):
    names = opened.slices()
    opened.choose(2, names[0])
    opened.press("next")
    assert opened.chosen(2) == names[1]
    opened.press("previous")
    opened.press("previous")
    assert opened.chosen(2) == names[-1]


def test_the_slider_flags_and_draws_what_exceeds_its_threshold(opened, rows):
    row = rows["AnoDDPM (t=300)"]
    arrays = maps_of(row)
    opened.choose(0, row.label)
    opened.choose(3, "5 % of healthy validation pixels")
    name = next(name for name in opened.slices() if "large" in name)
    opened.choose(2, name)
    i = list(arrays["id"]).index(name.split(",")[0])
    heat, lesion = arrays["anomaly_map"][i], arrays["lesion"][i]
    flags = heat > row.thresholds["healthy_fpr5"]
    assert opened.flagged() == flags.sum()
    assert (
        f"of the lesion {(flags & lesion).sum()}; Dice {100 * dice(flags, lesion):.1f}"
        in opened.said()
    )
    opened.press("input")
    before, threshold = opened.picture(), opened.browser.get_by_text("Threshold: ").inner_text()
    handle = opened.browser.get_by_role("slider")
    for _ in range(6):
        handle.press("ArrowRight")
    opened.settle()
    assert opened.flagged() < flags.sum()
    assert opened.browser.get_by_text("Threshold: ").inner_text() != threshold
    assert opened.chosen(3) == "own choice"
    fewer = opened.picture()
    assert np.abs(before - fewer).max() > 60
    handle.press("Home")
    opened.settle()
    assert opened.flagged() > flags.sum()
    opened.choose(3, "5 % of healthy validation pixels")
    assert opened.flagged() == flags.sum()
    assert np.array_equal(opened.picture(), before)


def test_the_pictures_are_those_of_the_slice_the_right_way_up(opened, rows):
    row = rows["AutoDDPM"]
    arrays = maps_of(row)
    opened.choose(0, "AutoDDPM")
    name = next(name for name in opened.slices() if "large" in name)
    opened.choose(2, name)
    opened.browser.get_by_role("slider").press("End")  # as few outlines as can be
    opened.settle()
    i, side = list(arrays["id"]).index(name.split(",")[0]), SIDE // SIZE
    outside = ~np.kron(_near(arrays["lesion"][i]), np.ones((side, side), bool))
    for stage in ("input", "reconstruction", "mask", "lesion"):
        opened.press(stage)
        wanted = 255 * np.kron(
            arrays["image" if stage == "input" else stage][i].clip(0, 1).astype(float),
            np.ones((side, side)),
        )
        off = np.abs(opened.picture().mean(axis=2) - wanted)[outside]
        assert np.quantile(off, 0.9) < 3, stage
    opened.press("map")
    shown, heat = opened.picture().mean(axis=2), arrays["anomaly_map"][i]
    small = shown.reshape(SIZE, side, SIZE, side)[:, side // 2, :, side // 2]
    assert (
        np.corrcoef(small.ravel(), np.minimum(heat, np.percentile(heat, 99.9)).ravel())[0, 1] > 0.7
    )


def _near(mask: np.ndarray) -> np.ndarray:
    padded = np.pad(mask, 1)
    return np.any([padded[y : y + SIZE, x : x + SIZE] for y in range(3) for x in range(3)], axis=0)


def test_a_method_without_a_mask_shows_the_input_and_says_so(opened):
    opened.choose(0, "AnoDDPM (t=100)")
    opened.press("mask")
    assert "AnoDDPM (t=100) has no mask: the input is shown" in opened.said()
    masked = opened.picture()
    opened.press("input")
    assert np.array_equal(opened.picture(), masked)
    assert "has no" not in opened.said()


def test_page_and_charts_follow_dark_mode_and_the_browser_stays(
    opened,
):
    name, ink = (
        opened.chosen(2),
        "Bokeh.documents.map((d) => d.roots()[0].below?.[0]?.axis_label_text_color)",
    )
    assert LIGHT.ink in opened.page.evaluate(ink)
    opened.page.emulate_media(color_scheme="dark")
    opened.settle()
    assert DARK.ink in opened.page.evaluate(ink)
    paper = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == f"rgb({', '.join(str(int(DARK.paper[n : n + 2], 16)) for n in (1, 3, 5))})"
    corner = np.asarray(
        Image.open(BytesIO(opened.page.locator("#precision_recall").screenshot())).convert("L")
    )
    assert np.median(corner) < 60
    assert opened.chosen(2) == name
    assert opened.page.locator("#precision_recall canvas").count() >= 1
    assert opened.complaints == []
    opened.page.emulate_media(color_scheme="light")
