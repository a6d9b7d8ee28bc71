"""`python -m src.evaluate`: run a detector over test slices and score it: one row of a table."""

import logging
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from autoddpm.evaluation.row import evaluate
from autoddpm.launch.names import register_resolvers
from autoddpm.launch.objective import check_objective, value_of
from autoddpm.launch.refusal import refusal
from autoddpm.machine.batch_size import eval_batch_size
from autoddpm.machine.devices import claimed_device
from autoddpm.machine.progress import quiet_lightning
from autoddpm.models.trained import check_compatible, load_checkpoint

register_resolvers()
quiet_lightning()
log = logging.getLogger(__name__)


@hydra.main(version_base="1.3", config_path="../conf", config_name="evaluate")
def main(cfg: DictConfig) -> float | None:
    folder = Path(HydraConfig.get().runtime.output_dir)
    with refusal("evaluate"), claimed_device(cfg.trainer) as devices:
        check_objective(cfg.objective, cfg.data.test)
        trained, perceptual = load_checkpoint(cfg.checkpoint), instantiate(cfg.perceptual)
        datamodule = instantiate(cfg.data, _convert_="all")
        datamodule.prepare_data()
        datamodule.setup("test")
        given = OmegaConf.to_container(OmegaConf.masked_copy(cfg, ["model", "noise"]), resolve=True)
        check_compatible(trained, datamodule.size, datamodule.subjects("test"), given)
        detector = instantiate(cfg.detector)(
            ddpm=trained.ddpm,
            sampler=instantiate(cfg.sampler),
            perceptual=perceptual,
            anomaly_map=instantiate(cfg.anomaly_map),
        )
        trainer = instantiate(
            cfg.trainer, callbacks=list(instantiate(cfg.callbacks).values()), devices=devices
        )
        datamodule.eval_batch_size = eval_batch_size(
            cfg.data.eval_batch_size, trained.ddpm, datamodule.size, trainer
        )
        lpips, config = instantiate(cfg.lpips), OmegaConf.to_yaml(cfg, resolve=True)
        row = evaluate(
            detector,
            trained,
            datamodule,
            trainer,
            lpips,
            folder,
            cfg.mask_false_positive_rate,
            cfg.size_groups,
            about={"experiment": cfg.name},
            config=config,
            nifti=cfg.nifti,
        )
        keys = ("healthy/ssim", "lesion/auprc", "lesion/max_dice", "lesion/dice@healthy_fpr5")
        values = {key: row["metrics"].get(key) for key in keys}
        text = "  ".join(
            f"{k} {'undefined' if value is None else f'{100 * value:.2f}'}"
            for k, value in values.items()
        )
        log.info("%s: %s  (%s)", row["label"], text, folder)
        return value_of(row, cfg.objective) if cfg.objective else None


if __name__ == "__main__":
    main()
