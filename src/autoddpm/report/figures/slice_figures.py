"""Figures 4 and 5 of the paper: slices, their reconstructions and anomaly maps."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from autoddpm.report.figures.examples import Example, Shown
from autoddpm.report.figures.panels import (
    LEFT,
    LETTER,
    Sheet,
    outline,
    panel_size,
    top_of_scale,
    wrap,
)
from autoddpm.report.figures.theme import ANOMALY_COLOURS, LESION, LIGHT, MASK, Theme


def noise_paradox_figure(
    examples: Sequence[Example],
    baselines: Sequence[Shown],
    methods: Sequence[Shown],
    theme: Theme = LIGHT,
) -> Figure:
    """Figure 4: reconstructions of each slice and, below each, its anomaly map.

    The baselines come first, by noise level. Within a slice all their maps share one scale. The
    methods' maps are in another unit and have their own.
    """
    side, bar = panel_size(examples[0].image, 256), 88
    kinds = [kind for kind in (baselines, methods) if kind]
    widths, headings = [(side, 10)], {0: "Input"}
    for kind in kinds:
        headings |= {len(widths) + n: shown.row.title for n, shown in enumerate(kind)}
        widths += [(side, 10)] * len(kind) + [(bar, 6)]
    heights = [(side, 8), (side, 30)] * len(examples)
    foot = "Each colour bar holds for the maps to its left, in its row."
    sheet = Sheet(widths, heights, headings, {"reference lesion": LESION}, theme, foot)
    for n, example in enumerate(examples):
        sheet.side_note(2 * n, _words(example))
        sheet.side_note(2 * n + 1, "anomaly maps")
        sheet.panel(2 * n, 0, example.image)
        outline(sheet.panel(2 * n + 1, 0, example.image).axes, example.lesion, LESION)
        column = 1
        for kind in kinds:
            top = top_of_scale([shown.stages["anomaly_map"][n] for shown in kind])
            for shown in kind:
                sheet.panel(2 * n, column, shown.stages["reconstruction"][n])
                image = sheet.panel(
                    2 * n + 1, column, shown.stages["anomaly_map"][n], ANOMALY_COLOURS, top
                )
                outline(image.axes, example.lesion, LESION, width=0.5)
                column += 1
            sheet.colour_bar(2 * n + 1, column, image)
            column += 1
    return sheet.figure


def stitching_figure(examples: Sequence[Example], method: Shown, theme: Theme = LIGHT) -> Figure:
    """Figure 5: input, initial reconstruction, both stitched by the mask, and re-sampled."""
    side = panel_size(examples[0].image, 384)
    steps = {
        "initial_reconstruction": "Initial reconstruction = AnoDDPM "
        f"(t={method.row.detector.get('t', '?')})",
        "stitched": "Stitched",
        "reconstruction": "Re-sampled",
    }
    headings = dict(enumerate(["Input", *steps.values()]))
    key = {"reference lesion": LESION, "mask that AutoDDPM found": MASK}
    sheet = Sheet([(side, 10)] * 4, [(side, 10)] * len(examples), headings, key, theme)
    for n, example in enumerate(examples):
        sheet.side_note(n, _words(example))
        axes = sheet.panel(n, 0, example.image).axes
        outline(axes, method.stages["mask"][n], MASK)
        outline(axes, example.lesion, LESION)
        for column, stage in enumerate(steps, start=1):
            sheet.panel(n, column, method.stages[stage][n])
    return sheet.figure


def _words(example: Example) -> str:
    """Size and id of an example, in lines that fit the left margin."""
    fits = len(example.id) * LETTER <= LEFT - 14
    name = example.id if fits else example.id.replace("/", "/\n")
    return wrap(f"{example.size_group} lesion\n{example.pixels} pixels\n{name}", LEFT - 14)
