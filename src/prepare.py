"""`python -m src.prepare`: from a downloaded data set to slices, with a page of the steps."""

from pathlib import Path

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.console import Console

from autoddpm.data.integrity import inspect
from autoddpm.data.store import build_store, check_stores
from autoddpm.launch.command_line import command, home_expanded
from autoddpm.launch.known_keys import refuse_unknown_keys
from autoddpm.launch.names import register_resolvers
from autoddpm.launch.refusal import refusal
from autoddpm.locks import alone
from autoddpm.preparation.exclusion import leave_out
from autoddpm.preparation.folder import prepare_volumes, read_index
from autoddpm.report.page.preparation import print_counts, write_preparation

register_resolvers()
SHOWN = 8
SETTINGS = ("name", "folder", "volumes", "steps", "exclude")


@command("prepare")
@hydra.main(version_base="1.3", config_path="../conf", config_name="prepare")
def main(cfg: DictConfig) -> None:
    home_expanded(cfg)
    with refusal("prepare", cfg.paths):
        name, folder = _check(cfg)
        with alone(folder, beside=True):
            _prepare(cfg, name, folder)
            records = instantiate(cfg.data.sources[name])()
            store = build_store(name, records, cfg.data.size, cfg.paths.prepared)
            index = read_index(folder)
            findings = inspect(store.images, store.index, index)
            page = write_preparation(folder / "report", name, store, index, findings)
    console = Console(width=None if Console().is_terminal else 140)
    print_counts(name, store, index, console)
    for finding in findings[:SHOWN]:
        console.print(
            finding.text,
            style="bold red" if finding.is_leak else "yellow",
            markup=False,
            highlight=False,
        )
    if len(findings) > SHOWN:
        console.print(
            f"... and {len(findings) - SHOWN} more findings, all in the report.", style="yellow"
        )
    console.print(
        f"Prepared in {folder}, store {store.folder}, report: {page}", soft_wrap=True, markup=False
    )


def _prepare(cfg: DictConfig, name: str, folder: Path) -> None:
    """Write the folder of slices, or continue."""
    try:
        if "build" in cfg.preparation:
            instantiate(cfg.preparation.build)
            return
        volumes = instantiate(cfg.preparation.volumes)
        volumes = leave_out(volumes, cfg.preparation.get("exclude"))
        steps = instantiate(cfg.preparation.steps)
        prepare_volumes(volumes, steps, folder, cfg.processes, cfg.on_error, f"Preparing {name}")
    except KeyboardInterrupt:
        raise SystemExit("prepare: stopped; the same command goes on from there") from None


def _check(cfg: DictConfig) -> tuple[str, Path]:
    """The name and the folder of the data set; what cannot be meant is refused."""
    if cfg.get("preparation") is None:
        raise ValueError(
            "say which data set: +experiment=ixi, fastmri, atlas or volumes (see --help)"
        )
    known = ("name", "folder", "build") if "build" in cfg.preparation else SETTINGS
    refuse_unknown_keys("preparation", cfg.preparation, known)
    name, size = cfg.preparation.name, cfg.data.size
    if name not in cfg.data.sources:
        raise ValueError(f"preparation.name={name}: data has no source of that name")
    if type(size) is not int or size < 1:
        raise ValueError(f"data.size={size}: must be a whole number of pixels, such as 128")
    check_stores(cfg.paths.prepared)
    return name, Path(cfg.preparation.folder)


if __name__ == "__main__":
    main()
