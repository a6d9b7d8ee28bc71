"""`python -m src.predict`: map what is anomalous in raw scans, on their own grids."""

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig

from autoddpm.launch.command_line import command, home_expanded
from autoddpm.launch.names import register_resolvers
from autoddpm.launch.refusal import refusal
from autoddpm.prediction.command import predict

register_resolvers()


@command("predict")
@hydra.main(version_base="1.3", config_path="../conf", config_name="predict")
def main(cfg: DictConfig) -> None:
    home_expanded(cfg)
    with refusal("predict", cfg.paths):
        for name in ("checkpoint", "scan", "out"):
            if cfg[name] is None:
                raise ValueError(f"{name}: none given; say {name}=... (see --help)")
        try:
            make_detector = instantiate(cfg.detector)
            code = predict(
                instantiate(cfg.prediction, _convert_="all"), lambda m: make_detector(model=m)
            )
        except KeyboardInterrupt:
            raise SystemExit("predict: stopped; the same command goes on from there") from None
    if code:
        raise SystemExit(code)


if __name__ == "__main__":
    main()
