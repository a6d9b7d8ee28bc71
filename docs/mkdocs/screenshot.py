"""Take a picture of a part of a page, with a Chromium that is there; none is downloaded.

page=data/ixi_stroke/report/index.html
python docs/mkdocs/screenshot.py $page docs/integrity.png Montage "Lesion sizes"
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
WIDTH, HEIGHT, MARGIN = 820, 900, 16


def main(page: str, picture: str, first: str, behind: str) -> None:
    """Write what lies between two headings of a page."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        window = {"width": WIDTH, "height": HEIGHT}
        view = chromium.new_context(offline=True, viewport=window).new_page()
        view.goto(Path(page).resolve().as_uri())
        top, end = (
            view.get_by_role("heading", name=name).bounding_box()["y"] - MARGIN
            for name in (first, behind)
        )
        clip = {"x": 0, "y": top, "width": WIDTH, "height": end - top}
        view.screenshot(path=picture, full_page=True, clip=clip)
        chromium.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
