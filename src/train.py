"""`python -m src.train`: train a DDPM on healthy slices, or continue."""

import logging
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from autoddpm.launch.names import check_same_run, register_resolvers
from autoddpm.launch.refusal import refusal
from autoddpm.machine.batch_size import out_of_memory, smaller_steps
from autoddpm.machine.devices import claimed_device
from autoddpm.machine.progress import quiet_lightning
from autoddpm.models.trained import begin, check_size, check_targets

register_resolvers()
quiet_lightning()
log = logging.getLogger(__name__)


@hydra.main(version_base="1.3", config_path="../conf", config_name="train")
def main(cfg: DictConfig) -> None:
    folder = Path(HydraConfig.get().runtime.output_dir)
    with refusal("train"):
        datamodule = instantiate(cfg.data, _convert_="all")
        datamodule.prepare_data()
        datamodule.setup("fit")
        datamodule.train_dataloader()  # refuses to be without a training slice
        about = datamodule.hash("train"), datamodule.size, datamodule.subjects("train")
        data = dict(zip(("hash", "size", "train_subjects"), about, strict=True))
        model = OmegaConf.to_container(cfg.model, resolve=True)
        settings = OmegaConf.to_container(cfg.module, resolve=True)
        check_targets(model, "model")  # what a checkpoint could not be loaded with again
        module = instantiate(cfg.module, model=model, data=data, _recursive_=False, _convert_="all")
        check_size(module.ddpm, datamodule.size)
        settings |= begin(module, cfg.begin_from)
        settings |= {key: cfg.trainer[key] for key in ("max_steps", "accumulate_grad_batches")}
        check_same_run(
            folder,
            {"model": model, "data": data["hash"], "batch_size": datamodule.batch_size, **settings},
        )
    parameters = sum(p.numel() for p in module.ddpm.parameters())
    log.info(
        "%d training slices, %d validation slices, %.1f M parameters; writing to %s",
        len(datamodule.index("train")),
        len(datamodule.index("calibrate")),
        parameters / 1e6,
        folder,
    )
    callbacks = list(instantiate(cfg.callbacks).values())
    loggers = list(instantiate(cfg.logger).values()) if cfg.logger else False
    last, plugins = folder / "checkpoints" / "last.ckpt", [instantiate(cfg.checkpoint_io)]
    if last.is_file():
        log.info("continuing from %s", last)
    advice = smaller_steps(datamodule.batch_size, cfg.trainer.accumulate_grad_batches)
    with refusal("train"), out_of_memory(advice), claimed_device(cfg.trainer) as devices:
        trainer = instantiate(
            cfg.trainer, callbacks=callbacks, logger=loggers, plugins=plugins, devices=devices
        )
        trainer.fit(module, datamodule=datamodule, ckpt_path=last if last.is_file() else None)
    log.info("checkpoint=%s", last)


if __name__ == "__main__":
    main()
