"""Import of weights that the paper's authors' code wrote."""

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from autoddpm.models.model import Trained
from autoddpm.models.trained import NOT_A_CHECKPOINT, build_model, trained_model
from autoddpm.models.weights_file import SUFFIX, open_safetensors, write_weights

PAPER_NETWORK: Mapping[str, Any] = {
    "_target_": "monai.networks.nets.DiffusionModelUNet",
    "spatial_dims": 2,
    "in_channels": 1,
    "out_channels": 1,
    "channels": [128, 256, 256],
    "attention_levels": [False, True, True],
    "num_res_blocks": 1,
    "num_head_channels": 256,
    "norm_num_groups": 32,
    "include_fc": False,  # their attention has an output projection that it never calls
}
SIZE = 128
PREFIX = "unet."
PERCEPTUAL = "l_pips_sq."  # LPIPS, which the later versions of their code save along
NOTE = (
    "the file does not tell its training subjects (the paper: IXI and fastMRI+), so tests on these "
    "data cannot be checked for subjects that were trained on"
)


def import_weights(
    path: str | Path, output: str | Path | None = None, network: Mapping[str, Any] | None = None
) -> Path:
    """Convert a checkpoint of the authors' code (`model_weights`, trained on [0, 1]).

    path: a torch file, or their weights alone as .safetensors.
    output: a .safetensors file, by default beside `path` with its stem.
    network: configuration of the denoiser, by default the paper's. Head channels and groups cannot
        be read off the weights, so another one must be given whole.

    The file is read with `weights_only`: code in it is not run. LPIPS and the output projections of
    the attentions, which their network never calls, are left out by design.

    Returns the path of the file written.

    Raises FileNotFoundError if there is no such file. Raises ValueError, naming the file and the
    keys, if any other key is left over or missing. Raises it too if a weight is no finite tensor of
    the network's shape.
    """
    path = Path(path)
    model = {
        "_target_": "autoddpm.diffusion.ddpm.DDPM",
        "data_range": [0, 1],
        "noise": {"_target_": "autoddpm.diffusion.noise.gaussian.Gaussian"},
        "schedule": {
            "_target_": "autoddpm.diffusion.schedule.LinearSchedule",
            "T": 1000,
            "beta_start": 1e-4,
            "beta_end": 0.02,
        },
        "denoiser": dict(network or PAPER_NETWORK),
    }
    output = Path(output or path.with_suffix(SUFFIX))
    content = _read(path)
    if output.resolve() == path.resolve():
        raise ValueError(
            f"{path}: would be overwritten; name another file to write: --output FILE{SUFFIX}"
        )
    weights = _renamed(content["model_weights"], build_model(model).network, path)
    ddpm = trained_model(model, weights, path)
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    record = {"imported from": path.name, "sha256": sha256, "note": NOTE}
    if isinstance(content.get("epoch"), int):
        record["epoch"] = content["epoch"]
    data: dict[str, Any] = {"hash": None, "size": SIZE, "train_subjects": []}
    trained = Trained(ddpm, model, data, 0, path, sha256[:16], record)
    (written,) = write_weights(trained, output)
    return written


def _read(path: Path) -> dict[str, Any]:
    """The content of a torch file with `model_weights`. A safetensors file is taken as these."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    if path.suffix == SUFFIX:
        with open_safetensors(path) as opened:
            if "autoddpm" in (opened.metadata() or {}):
                raise ValueError(
                    f"{path}: a weights file of autoddpm already; "
                    f"use it as it is: checkpoint={path}"
                )
            return {"model_weights": {name: opened.get_tensor(name) for name in opened.keys()}}  # noqa: SIM118
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path}: holds more than weights, or is no torch file; nothing in it was run. Save "
            "the authors' dictionary with its `model_weights` alone"
        ) from error
    except (ValueError, *NOT_A_CHECKPOINT) as error:
        raise ValueError(
            f"{path}: not a torch file, or truncated ({type(error).__name__})"
        ) from error
    if isinstance(content, dict) and "hyper_parameters" in content:
        raise ValueError(
            f"{path}: a checkpoint of autoddpm already; use it as it is: checkpoint={path}"
        )
    if not isinstance(content, dict) or not isinstance(content.get("model_weights"), Mapping):
        names = content if isinstance(content, dict) else [type(content).__name__]
        raise ValueError(
            f"{path}: has no `model_weights`, as the authors' checkpoints have; found: "
            f"{', '.join(map(str, names))[:200]}"
        )
    return content


def _renamed(old: Mapping[str, Any], denoiser: nn.Module, path: Path) -> dict[str, Tensor]:
    """The weights under the names of `DDPM.state_dict`.

    Raises ValueError if one of the network's is missing or has another shape, or if one is left
    over.
    """
    shapes = {name: list(values.shape) for name, values in denoiser.state_dict().items()}
    names = {_old_name(name): name for name in shapes}
    known = {*names, *(name.replace(".to_k.", ".proj_attn.") for name in names)}
    for old_name in (name for name in names if name in old):
        values, shape = old[old_name], shapes[names[old_name]]
        if not isinstance(values, Tensor) or not values.is_floating_point():
            raise ValueError(f"{path}: {old_name} is no tensor of real numbers")
        if list(values.shape) != shape:
            raise ValueError(
                f"{path}: {old_name} has the shape {list(values.shape)}, the paper's network has "
                f"{shape} there; only that network can be imported"
            )
    if missing := [name for name in names if name not in old]:
        raise ValueError(f"{path}: without {_listed(missing)}, which the network needs")
    if left_over := [
        name for name in map(str, old) if name not in known and not name.startswith(PERCEPTUAL)
    ]:
        raise ValueError(
            f"{path}: {_listed(left_over)} has no place in the paper's network; "
            "is it another one's?"
        )
    return {f"denoiser.{name}": old[old_name].float() for old_name, name in names.items()}


def _old_name(name: str) -> str:
    """The name of a weight in the authors' copy of MONAI's network."""
    return PREFIX + name.replace(".attn.to_", ".to_").replace(".postconv.", ".conv.")


def _listed(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
