"""`python -m src.evaluate`: run a detector over test slices and score it: one row of a table."""

import autoddpm.training  # noqa: F401 (the first: it names the extra that is missing)

# isort: split
import logging
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from autoddpm.detectors.detector import checked_detector, trained_parts
from autoddpm.evaluation.detect import Bench
from autoddpm.evaluation.row import RowSettings, evaluate, metrics_of_rows
from autoddpm.launch.command_line import command, home_expanded
from autoddpm.launch.names import register_resolvers
from autoddpm.launch.refusal import refusal
from autoddpm.launch.search import check_search, objective_value
from autoddpm.machine.batch_size import eval_batch_size
from autoddpm.machine.devices import check_devices, claimed_device, cluster_plugins
from autoddpm.machine.progress import quiet_lightning
from autoddpm.models.compatibility import check_compatible, check_same_images
from autoddpm.models.trained import load_checkpoint

register_resolvers()
quiet_lightning()
log = logging.getLogger(__name__)


@command("evaluate")
@hydra.main(version_base="1.3", config_path="../conf", config_name="evaluate")
def main(cfg: DictConfig) -> float | None:
    home_expanded(cfg)
    folder = Path(HydraConfig.get().runtime.output_dir)
    with refusal("evaluate", cfg.paths), claimed_device(cfg.trainer) as devices:
        check_devices(cfg.trainer)
        plugins = cluster_plugins(cfg.trainer)
        check_search(cfg.objective, cfg.data.test, metrics_of_rows())
        trained = load_checkpoint(cfg.checkpoint)
        make_detector, lpips = instantiate(cfg.detector), instantiate(cfg.lpips)
        datamodule = instantiate(cfg.data, _convert_="all")
        datamodule.prepare_data()
        datamodule.setup("test")
        given = OmegaConf.to_container(OmegaConf.masked_copy(cfg, ["model", "noise"]), resolve=True)
        check_compatible(trained, datamodule.size, datamodule.subjects("test"), given)
        detector = checked_detector(make_detector(model=trained.model))
        for further in trained_parts(detector):
            check_compatible(further, datamodule.size, datamodule.subjects("test"), {})
            check_same_images(further, trained)
        callbacks = list(instantiate(cfg.callbacks).values())
        trainer = instantiate(
            cfg.trainer, callbacks=callbacks, devices=devices, plugins=plugins or None
        )
        datamodule.eval_batch_size = eval_batch_size(
            cfg.data.eval_batch_size, trained.model, datamodule.size, trainer
        )
        reconstructions = Path(cfg.paths.runs, cfg.name, "reconstructions")
        bench = Bench(trained, datamodule, trainer, reconstructions, cfg.postprocess)
        settings = RowSettings(
            mask_false_positive_rate=cfg.mask_false_positive_rate,
            size_groups=cfg.size_groups,
            about={"experiment": cfg.name},
            config=OmegaConf.to_yaml(cfg, resolve=True),
            nifti=cfg.nifti,
        )
        row = evaluate(detector, bench, lpips, folder, settings)
        log.info("%s: %s  (%s)", row["label"], in_short(row), folder)
        return objective_value(row, cfg.objective) if cfg.objective else None


def in_short(row: dict[str, Any]) -> str:
    """The four most important metrics of a row, in percent."""
    keys = ("healthy/ssim", "lesion/auprc", "lesion/max_dice", "lesion/dice@healthy_fpr5")
    values = {key: row["metrics"].get(key) for key in keys}
    return "  ".join(
        f"{key} {'undefined' if value is None else f'{100 * value:.2f}'}"
        for key, value in values.items()
    )


if __name__ == "__main__":
    main()
