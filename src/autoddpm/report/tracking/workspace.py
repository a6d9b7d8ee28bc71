"""What of a tracked report Weights & Biases draws: metrics against the noise level, and a workspace
defined in code."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from autoddpm.report.rows.methods import Method
from autoddpm.report.rows.row import Row
from autoddpm.report.tables.table import Column, Table

STEP = "trainer/global_step"  # as Lightning's logger calls it
EXAMPLES = ("examples/input", "examples/reconstruction", "examples/anomaly_map")


class Curve(NamedTuple):
    """A metric, called y, against the noise level x.  name: of the chart.  points: (x, y,
    method)."""

    name: str
    x: str
    y: str
    points: list[Iterable[Any]]

    @property
    def title(self) -> str:
        return f"{self.y} against {self.x}"


def curves(settings: Mapping[str, Any], rows: Sequence[Row]) -> list[Curve]:
    """Of each figure with columns, each column against the baselines' noise level. The method,
    which has no such level, is the same at all of them. An undefined value is left out."""
    found = []
    for figure in (
        figure for figure in settings["figures"].values() if figure and "columns" in figure
    ):
        baselines, method = (
            Method(**settings["methods"][figure[key]]) for key in ("baselines", "method")
        )
        x = str(baselines.order)
        levels = [row for row in baselines.rows(rows) if x in row.detector]
        points = [
            (
                row.detector[x],
                row,
                f"{row.detector['name']}{f' [{row.variant}]' if row.variant else ''}",
            )
            for row in levels
        ]
        steps = sorted({step for step, _, _ in points})
        points += [(step, row, row.title) for row in method.rows(rows) for step in steps]
        for column in (Column(**column) for column in figure["columns"]):
            values = [(step, row.metrics.get(column.key), line) for step, row, line in points]
            name = f"{re.sub(r'[^a-zA-Z0-9]', '_', column.key)}_against_{x}"
            shown: list[Iterable[Any]] = [
                [step, value * column.scale, line]
                for step, value, line in values
                if value is not None
            ]
            found.append(Curve(name, x, column.title, shown))
    return found


def workspace(
    entity: str, project: str, name: str, tables: Sequence[Table], charts: Sequence[Curve]
) -> Any:
    """A W&B workspace that shows the group of runs called `name`: tables, curves, examples,
    training. Not saved."""
    import wandb_workspaces.reports.v2 as panels
    import wandb_workspaces.workspaces as ws

    def chart_panel(chart: Curve) -> panels.CustomChart:
        return panels.CustomChart(
            query={"summaryTable": {"tableKey": f"{chart.name}_table"}},
            chart_name="wandb/line/v0",
            chart_fields={"x": chart.x, "y": chart.y, "stroke": "method"},
            chart_strings={"title": chart.title},
        )

    training = [panels.LinePlot(x=STEP, y=["train/loss"]), panels.LinePlot(x=STEP, y=["val/loss"])]
    media = [panels.MediaBrowser(title=key, media_keys=[key], num_columns=3) for key in EXAMPLES]
    sections: dict[str, list[Any]] = {
        "Tables: paper, ours, interval": [
            panels.WeavePanelSummaryTable(table_name=table.name) for table in tables
        ],
        "Against the noise level": [chart_panel(chart) for chart in charts],
        "Examples with lesion and predicted mask": media,
        "Training": training,
    }
    columns = dict.fromkeys(f"summary:{column.key}" for table in tables for column in table.columns)
    return ws.Workspace(
        entity=entity,
        project=project,
        name=f"{name}: report",
        sections=[
            ws.Section(name=title, panels=found, is_open=True)
            for title, found in sections.items()
            if found
        ],
        runset_settings=ws.RunsetSettings(
            filters=f'Metric("Group") == {name!r}',
            pinned_columns=list(columns),
        ),
    )
