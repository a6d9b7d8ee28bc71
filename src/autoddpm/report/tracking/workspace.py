"""Charts and dashboard of a report in Weights & Biases: a workspace, defined in code."""

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from autoddpm.report.figures.curve import Curve
from autoddpm.report.tables.table import Table

EXAMPLES = ("examples/input", "examples/reconstruction", "examples/anomaly_map")


class Chart(NamedTuple):
    """A metric against the noise level as W&B draws it.

    name: of the chart.
    x, y: names of the axes.
    points: (x, y, method).
    """

    name: str
    x: str
    y: str
    points: list[Iterable[Any]]

    @property
    def title(self) -> str:
        """Heading of the chart."""
        return f"{self.y} against {self.x}"


def chart_of(curve: Curve) -> Chart:
    """A curve's points. A method, which has no noise level, is the same at all of them."""
    name = f"{re.sub(r'[^a-zA-Z0-9]', '_', curve.column.key)}_against_{curve.order}"
    points: list[Iterable[Any]] = [
        [point.x, point.y, line] for line, found in curve.lines.items() for point in found
    ]
    points += [[x, level.y, level.title] for level in curve.levels for x in curve.xs]
    return Chart(name, curve.order, curve.column.title, points)


def workspace(
    entity: str, project: str, name: str, tables: Sequence[Table], charts: Sequence[Chart]
) -> Any:
    """A dashboard of the group of runs called `name`: tables, curves and examples. Not saved."""
    import wandb_workspaces.reports.v2 as panels
    import wandb_workspaces.workspaces as ws

    def chart_panel(chart: Chart) -> panels.CustomChart:
        return panels.CustomChart(
            query={"summaryTable": {"tableKey": f"{chart.name}_table"}},
            chart_name="wandb/line/v0",
            chart_fields={"x": chart.x, "y": chart.y, "stroke": "method"},
            chart_strings={"title": chart.title},
        )

    sections: dict[str, list[Any]] = {
        "Tables: paper, ours, interval": [
            panels.WeavePanelSummaryTable(table_name=table.name) for table in tables
        ],
        "Against the noise level": [chart_panel(chart) for chart in charts],
        "Examples with lesion and predicted mask": [
            panels.MediaBrowser(title=key, media_keys=[key], num_columns=3) for key in EXAMPLES
        ],
    }
    columns = dict.fromkeys(f"summary:{column.key}" for table in tables for column in table.columns)
    shown = {title: found for title, found in sections.items() if found}
    return ws.Workspace(
        entity=entity,
        project=project,
        name=f"{name}: report",
        sections=[
            ws.Section(name=title, panels=found, is_open=True) for title, found in shown.items()
        ],
        runset_settings=ws.RunsetSettings(
            filters=f'Metric("Group") == {name!r}', pinned_columns=list(columns)
        ),
    )
