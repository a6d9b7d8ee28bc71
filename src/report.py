"""`python -m src.report +experiment=demo`: tables, figures and one page from an experiment's finished rows."""

from pathlib import Path
from typing import Any, cast

import hydra
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.text import Text

from autoddpm.modules.refusal import refusal
from autoddpm.report.table import print_table
from autoddpm.report.write import write_report


@hydra.main(version_base="1.3", config_path="../conf", config_name="report")
def main(config: DictConfig) -> None:
    settings = cast(dict[str, Any], OmegaConf.to_container(config.report, resolve=True))
    with refusal("report"):
        report = write_report(Path(settings["rows"]), Path(settings["folder"]), config.name, settings)
    console = Console(width=None if Console().is_terminal else 140)
    for table in report.tables[:1]:
        print_table(table, console)
    for remark in report.remarks:
        console.print(Text(remark, style="bold red"))
    console.print(Text(f"Report: {report.page}"), soft_wrap=True)


if __name__ == "__main__":
    main()
