"""`python -m src.train`: train a model on healthy slices, or continue."""

import autoddpm.training  # noqa: F401 (the first: it names the extra that is missing)

# isort: split
import logging
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from lightning.fabric.utilities.rank_zero import rank_zero_only
from omegaconf import DictConfig, OmegaConf

from autoddpm.launch.command_line import command, home_expanded, pasteable
from autoddpm.launch.names import check_same_run, register_resolvers
from autoddpm.launch.refusal import refusal
from autoddpm.locks import alone
from autoddpm.machine.batch_size import out_of_memory, smaller_steps
from autoddpm.machine.devices import check_devices, claimed_device, cluster_plugins
from autoddpm.machine.progress import quiet_lightning
from autoddpm.models.trained import check_targets
from autoddpm.training.begin import begin, check_size

register_resolvers()
quiet_lightning()
log = logging.getLogger(__name__)


@command("train")
@hydra.main(version_base="1.3", config_path="../conf", config_name="train")
def main(cfg: DictConfig) -> None:
    home_expanded(cfg)
    folder = Path(HydraConfig.get().runtime.output_dir)
    first = rank_zero_only.rank == 0  # it starts the processes of further devices, in this folder
    with refusal("train", cfg.paths), alone(folder) if first else nullcontext():
        train(cfg, folder)


def train(cfg: DictConfig, folder: Path) -> None:
    """Train into a folder that no other run has, or continue there."""
    check_devices(cfg.trainer)
    plugins = [instantiate(cfg.checkpoint_io), *cluster_plugins(cfg.trainer)]
    datamodule, module = data_and_module(cfg, folder)
    log.info(
        "%d training slices, %d validation slices, %.1f M parameters; writing to %s",
        len(datamodule.index("train")),
        len(datamodule.index("calibrate")),
        sum(p.numel() for p in module.model.parameters()) / 1e6,
        folder,
    )
    callbacks = list(instantiate(cfg.callbacks).values())
    loggers = list(instantiate(cfg.logger).values()) if cfg.logger else False
    last = folder / "checkpoints" / "last.ckpt"
    if last.is_file():
        log.info("continuing from %s", last)
    advice = smaller_steps(datamodule.batch_size, cfg.trainer.accumulate_grad_batches)
    with out_of_memory(advice), claimed_device(cfg.trainer) as devices:
        trainer = instantiate(
            cfg.trainer, callbacks=callbacks, logger=loggers, plugins=plugins, devices=devices
        )
        trainer.fit(module, datamodule=datamodule, ckpt_path=last if last.is_file() else None)
    log.info("%s", pasteable("checkpoint", last))


def data_and_module(cfg: DictConfig, folder: Path) -> tuple[Any, Any]:
    """The data module and the LightningModule.

    Raises ValueError for what would otherwise fail hours later.
    """
    datamodule = instantiate(cfg.data, _convert_="all")
    datamodule.prepare_data()
    datamodule.setup("fit")
    datamodule.train_dataloader()  # refuses to be without a training slice
    data = {
        "hash": datamodule.hash("train"),
        "size": datamodule.size,
        "train_subjects": datamodule.subjects("train"),
        "preparation": datamodule.preparation(),
    }
    model = cast(dict[str, Any], OmegaConf.to_container(cfg.model, resolve=True))
    settings = cast(dict[str, Any], OmegaConf.to_container(cfg.module, resolve=True))
    check_targets(model, "model")  # what a checkpoint could not be loaded with again
    # How a model is trained is no part of what it is: two that differ in it have one configuration.
    settings["objective"] = model.pop("objective", None)
    module = instantiate(
        cfg.module,
        model=model,
        data=data,
        objective=settings["objective"],
        _recursive_=False,
        _convert_="all",
    )
    check_size(module.model, datamodule.size)
    settings |= begin(module, cfg.begin_from)
    settings |= {key: cfg.trainer[key] for key in ("max_steps", "accumulate_grad_batches")}
    settings |= {"model": model, "data": data["hash"], "batch_size": datamodule.batch_size}
    check_same_run(folder, settings)
    return datamodule, module


if __name__ == "__main__":
    main()
