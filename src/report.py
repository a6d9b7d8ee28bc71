"""`python -m src.report +experiment=demo`: tables, figures and a page of finished rows."""

import autoddpm.report  # noqa: F401 (the first: it names the extra that is missing)

# isort: split
from itertools import chain
from pathlib import Path
from typing import Any, cast

import hydra
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.text import Text

from autoddpm.launch.command_line import command, home_expanded
from autoddpm.launch.refusal import refusal
from autoddpm.report.tables.definition import register_tables
from autoddpm.report.tables.terminal import print_table
from autoddpm.report.tracking.wandb_runs import check_tracking, log_report
from autoddpm.report.write import write_report

CHECKOUT = Path(__file__).resolve().parents[1]

with refusal("report"):
    register_tables(CHECKOUT / "experiments")


@command("report")
@hydra.main(version_base="1.3", config_path="../conf", config_name="report")
def main(config: DictConfig) -> None:
    home_expanded(config)
    settings = cast(dict[str, Any], OmegaConf.to_container(config.report, resolve=True))
    rows, folder, progress = Path(settings["rows"]), Path(settings["folder"]), Console(stderr=True)
    with refusal("report", config.paths):
        check_tracking(settings["wandb"])
        made = write_report(rows, folder, config.name, settings, progress)
        curves = list(chain.from_iterable(made.curves.values()))
        tracked = log_report(
            config.name, made.tables, made.rows, curves, made.examples, settings, folder
        )
    console = Console(width=None if Console().is_terminal else 140)
    for table in made.tables[:1]:
        print_table(table, console)
    for remark in made.remarks:
        console.print(Text(remark, style="bold red"))
    for line in (*tracked, f"Report: {made.page or made.folder}"):
        console.print(Text(line), soft_wrap=True)


if __name__ == "__main__":
    main()
