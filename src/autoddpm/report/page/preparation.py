"""The page of a prepared data set: counts, exclusions with their reasons, pictures, doubts."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from rich.console import Console
from rich.table import Table as RichTable

from autoddpm.atomic import read_json, write_bytes
from autoddpm.data.integrity import Finding
from autoddpm.data.lesion_size import GROUPS, LARGEST_OF_GROUP, size_group
from autoddpm.data.montage import montage, outlined
from autoddpm.data.store import Store
from autoddpm.preparation.folder import EMPTY, ERROR, IMPLAUSIBLE
from autoddpm.report.figures.figure import ReportFigure
from autoddpm.report.figures.theme import DARK, DPI, LIGHT, METHOD, Theme, dress, png
from autoddpm.report.page.html import render

#: Slices in the published test set (paper, section 4).
PUBLISHED = {"atlas": {"healthy": 215, "small": 209, "medium": 152, "large": 59}}
COLUMNS, TILE = 8, 256
SITES = 8  # that one figure can tell apart


@dataclass(frozen=True)
class Counts:
    """A table of the page: rows of texts and numbers."""

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str | int]]
    caption: str = ""


def write_preparation(
    folder: Path, name: str, store: Store, prepared: pd.DataFrame, findings: Sequence[Finding]
) -> Path:
    """Write `folder`/index.html and its pictures. Returns the page's path.

    store: the prepared slices.
    prepared: index that `src.prepare` wrote, with the volumes that were left out.
    findings: doubts about the data.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pictures = [_montage(store), _histograms(store)]
    if store.index["lesion_pixels"].any():
        pictures.append(_lesion_sizes(store))
    for picture in pictures:
        write_bytes(folder / f"{picture.name}.png", picture.light or b"")
    settings = read_json(folder.parent / "preparation.json")
    html = render(
        "preparation.html.jinja",
        name=name,
        summary=f"{len(store.index)} slices of {store.index['subject'].nunique()} subjects.",
        tables=count_tables(name, store, prepared),
        pictures=pictures,
        findings=findings,
        settings={
            **settings["steps"],
            "version": settings["version"],
            "key": settings["key"],
            "store": store.folder,
        },
    )
    write_bytes(folder / "index.html", html.encode())
    return folder / "index.html"


def count_tables(name: str, store: Store, prepared: pd.DataFrame) -> list[Counts]:
    """Slices by split and lesion size, volumes by use and reason, slices by site."""
    groups = np.array(GROUPS)[size_group(store.index["lesion_pixels"], store.size)]
    rows: list[list[str | int]] = []
    for split in [s for s in ("train", "val", "test") if (store.index["split"] == s).any()]:
        chosen = groups[(store.index["split"] == split).to_numpy()]
        rows.append([split, len(chosen), *(int((chosen == group).sum()) for group in GROUPS)])
    caption = (
        "Healthy: at most 1 lesion pixel; the groups are by lesion pixels at 128 x 128: "
        f"at most {LARGEST_OF_GROUP[1]} small, above {LARGEST_OF_GROUP[2]} large."
    )
    if name in PUBLISHED:
        rows.append(["published", sum(PUBLISHED[name].values()), *PUBLISHED[name].values()])
        near = store.index[store.index["lesion_lost"] | (store.index["lesion_pixels"] == 1)]["id"]
        if list(rows[-1][2:]) != list(rows[-2][2:]):
            caption += (
                " The published counts were made with a resize of the masks that is not public. "
                "Slices whose lesion this one shrinks to at most 1 pixel: "
                f"{', '.join(near) or 'none'}."
            )
    tables = [Counts("Slices", ["split", "slices", *GROUPS], rows, caption)]
    is_empty = prepared["excluded"] == EMPTY
    why = prepared[~is_empty].drop_duplicates("source")["excluded"]
    found, used = int((~why.str.endswith("not in this folder")).sum()), int((why == "").sum())
    reasons = Counter(_in_short(w) for w in why if w)
    left_out: list[list[str | int]] = [
        [f"left out: {reason}", number] for reason, number in reasons.most_common()
    ]
    caption = f"Empty slices of the used volumes that were left out: {is_empty.sum()}."
    volumes: list[list[str | int]] = [["found", found], ["used", used], *left_out]
    tables.append(
        Counts("Volumes", ["what", "volumes"], volumes, caption if is_empty.any() else "")
    )
    if "contrast" in prepared:
        tables.append(_contrasts(prepared[prepared["contrast"] != ""]))
    if len(sites := Counter(store.index["site"])) > 1:
        tables.append(
            Counts("Sites", ["site", "slices"], [[*pair] for pair in sorted(sites.items())])
        )
    return tables


def _in_short(reason: str) -> str:
    """A reason of exclusion without what is the volume's own."""
    if reason.startswith(ERROR):
        return "cannot be used, see below"
    return "implausible brain, see below" if reason.startswith(IMPLAUSIBLE) else reason


def _contrasts(strokes: pd.DataFrame) -> Counts:
    """Contrast of the strokes of a semi-synthetic set, by size and looks."""
    rows: list[list[str | int]] = []
    for column in ("size_group", "appearance", "shifted"):
        for name, group in strokes.groupby(column):
            low, middle, high = np.percentile(group["contrast"].astype(float), [5, 50, 95])
            label = {"true": "shifted", "false": "as they are"}.get(str(name), str(name))
            rows.append(
                [label, len(group), *(f"{100 * value:.0f} %" for value in (low, middle, high))]
            )
    caption = (
        "Mean intensity of the lesion over that of the slice's white matter, less 1: 0 % cannot be "
        "seen, -100 % is black. Shifted: as another scanner and an older patient give them."
    )
    return Counts(
        "Contrast",
        ["strokes", "slices", "5th percentile", "median", "95th percentile"],
        rows,
        caption,
    )


def print_counts(name: str, store: Store, prepared: pd.DataFrame, console: Console) -> None:
    """The page's tables on the terminal."""
    for counts in count_tables(name, store, prepared):
        table = RichTable(
            *counts.heads,
            title=f"{name}: {counts.title}",
            caption=counts.caption,
            caption_justify="left",
        )
        for row in counts.rows:
            table.add_row(*map(str, row))
        console.print(table)


def _montage(store: Store) -> ReportFigure:
    """Slices at regular distances in the order of ids, lesions outlined."""
    chosen = np.unique(np.linspace(0, len(store.index) - 1, 4 * COLUMNS).astype(int))
    columns = min(COLUMNS, len(chosen))
    tiles = [
        outlined((255 * channel).round().astype(np.uint8), store.lesions[i, 0], TILE)
        for i in chosen
        for channel in store.images[i]
    ]
    buffer = BytesIO()
    montage(tiles, columns).save(buffer, "png")
    caption = (
        "Every n-th slice as the network sees it (front of the head above), its lesion outlined."
    )
    return ReportFigure("montage", "Montage", caption, buffer.getvalue())


def _histograms(store: Store) -> ReportFigure:
    """Median and spread of the slices' intensity histograms, a line per site or split."""
    by = "site" if 1 < store.index["site"].nunique() <= SITES else "split"
    edges = np.linspace(0, 1, 65)
    counts = np.stack([np.histogram(image, edges)[0] / image.size for image in store.images])

    def draw(theme: Theme) -> bytes:
        figure, axes = _axes(theme, "intensity", "share of pixels")
        names = sorted(set(store.index[by]))
        for number, name in enumerate(names):
            chosen = counts[(store.index[by] == name).to_numpy()]
            low, middle, high = np.percentile(chosen, [5, 50, 95], axis=0)
            colour = f"C{number}"
            axes.plot(
                edges[:-1],
                middle,
                color=colour,
                lw=1.1,
                label=f"{name or by} ({len(chosen)})",
                drawstyle="steps-post",
            )
            axes.fill_between(edges[:-1], low, high, color=colour, alpha=0.15, step="post", lw=0)
        axes.set_yscale("log")
        axes.legend(frameon=False, fontsize=7, labelcolor=theme.ink)
        return png(figure)

    caption = f"Intensities of the slices by {by}: the median slice and the range of 90 % of them."
    return ReportFigure("histograms", "Intensities", caption, draw(LIGHT), draw(DARK))


def _lesion_sizes(store: Store) -> ReportFigure:
    pixels = store.index["lesion_pixels"].to_numpy() * (128 / store.size) ** 2
    pixels = pixels[pixels > LARGEST_OF_GROUP[0]]

    def draw(theme: Theme) -> bytes:
        figure, axes = _axes(theme, "lesion pixels at 128 x 128", "slices")
        edges = np.geomspace(1, max(2000, pixels.max(initial=1)), 40)
        axes.hist(pixels, edges.tolist(), color=METHOD)
        for cut in LARGEST_OF_GROUP[1:]:
            axes.axvline(cut + 0.5, color=theme.ink, lw=0.8, ls=(0, (4, 2)))
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
        return png(figure)

    caption = "Lesion sizes, with the cuts between small, medium and large (dashed)."
    return ReportFigure("lesion_sizes", "Lesion sizes", caption, draw(LIGHT), draw(DARK))


def _axes(theme: Theme, x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5.2, 2.6), dpi=DPI, facecolor=theme.paper, layout="constrained")
    axes = figure.subplots()
    dress(axes, theme, x, y)
    return figure, axes
