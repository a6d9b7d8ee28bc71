"""The weights file: a .safetensors file with all that is needed to use the weights in it.

A tensor is named as in the model's `state_dict` and is float32 or float16. The file's only metadata
entry, `autoddpm`, is a JSON object:

format: 1.
weights_sha256: of the tensors and of `model`. It stays whatever else is added to the file.
model: configuration of the model, such as a DDPM's network, range, noise and schedule.
data: hash, size and train_subjects of the training data, and its preparation.
step: optimiser steps taken, 0 if unknown.
record: further facts for a model card.
thresholds: entries {threshold, conditions, healthy}, as `autoddpm.evaluation.thresholds` keeps
    them. `healthy` tells what is typical of the slices that it was calibrated on, see
    `autoddpm.metrics.typical`. Entries of 0.1.0 lack it.

`x.safetensors` may be split into shards, x-00001-of-00003.safetensors and so on, each with the same
metadata. Any shard, x.safetensors and x name all of them.
"""

import glob
import hashlib
import json
import logging
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from autoddpm.atomic import read_json, write_bytes
from autoddpm.models.model import Trained

log = logging.getLogger(__name__)

SUFFIX = ".safetensors"
SHARD = re.compile(r"-(\d{5})-of-(\d{5})$")
SHARD_BYTES = 16 * 2**20
#: Where released weights are: in the installed package, and in a checkout.
RELEASED = (Path(__file__).parents[1] / "weights", Path(__file__).parents[3] / "weights")
FORMAT = 1
FIELDS = {
    "weights_sha256": str,
    "model": dict,
    "data": dict,
    "step": int,
    "record": dict,
    "thresholds": list,
}


@dataclass(frozen=True)
class StoredWeights:
    """The content of a weights file.

    path: its name, x.safetensors, also if it is in shards.
    about: its metadata, see this module.
    state: its tensors by name.
    """

    path: Path
    about: dict[str, Any]
    state: dict[str, Tensor]


def weights_files(path: str | Path) -> list[Path]:
    """The weights file, or its shards in their order, that `path` names.

    path: x.safetensors, one of its shards, or x. If no file or folder here has that name, it may
        also be one of `released_names`.

    Returns an empty list if there is no such file, or if it is no .safetensors file.

    Raises ValueError if shards are missing or belong to two writings.
    """
    path = Path(path)
    if str(path) == path.name and not path.exists() and path.name in released_names():
        path = next(folder for folder in RELEASED if _here(folder, path.name)) / path.name
    name = path.name.removesuffix(SUFFIX)
    if not path.name or (path.is_file() and path.suffix != SUFFIX):
        return []
    if not SHARD.search(name) and (whole := path.with_name(name + SUFFIX)).is_file():
        return [whole]
    stem = path.with_name(SHARD.sub("", name))
    found = _shards(stem)
    if not found:
        return []
    totals = sorted({int(file.stem[-5:]) for file in found})
    if len(totals) > 1:
        raise ValueError(
            f"{stem}{SUFFIX}: there are shards of {' and of '.join(map(str, totals))}; delete the "
            "older ones"
        )
    expected = _shard_names(stem, totals[0])
    if missing := [file.name for file in expected if file not in found]:
        raise ValueError(
            f"{stem}{SUFFIX}: not whole, {', '.join(missing)} is missing; fetch or export it again"
        )
    return expected


def released_names() -> list[str]:
    """Names of the weights that come with this package, to be given as a checkpoint."""
    files = [
        file.name.removesuffix(SUFFIX) for folder in RELEASED for file in folder.glob(f"*{SUFFIX}")
    ]
    return sorted({SHARD.sub("", name) for name in files})


def _here(folder: Path, name: str) -> bool:
    return bool((folder / f"{name}{SUFFIX}").is_file() or _shards(folder / name))


def read_weights(path: str | Path) -> StoredWeights:
    """Read a weights file or all its shards. The tensors keep the type that they are stored in.

    path: as for `weights_files`.

    Raises FileNotFoundError if there is none. Raises ValueError, naming the file, if it is
    truncated, damaged or of another program.
    """
    if not (files := weights_files(path)):
        raise FileNotFoundError(f"{path}: no such weights file")
    about = read_about(path)
    state: dict[str, Tensor] = {}
    for file in files:
        with open_safetensors(file) as opened:
            state |= {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (it is no mapping)
    if _sha256(about["model"], state) != about["weights_sha256"]:
        raise ValueError(
            f"{files[0]}: its weights are not those that were written: damaged, or shards of two "
            "writings"
        )
    whole = files[0].with_name(SHARD.sub("", files[0].stem) + SUFFIX)
    return StoredWeights(whole, about, state)


def read_about(path: str | Path) -> dict[str, Any]:
    """Read the metadata of a weights file, see this module, without its tensors.

    Raises as `read_weights`.
    """
    texts = {}
    for file in weights_files(path):
        with open_safetensors(file) as opened:
            texts[file] = (opened.metadata() or {}).get("autoddpm")
    first = next(iter(texts), None)
    if first is None:
        raise FileNotFoundError(f"{path}: no such weights file")
    if len(set(texts.values())) > 1:
        raise ValueError(
            f"{first}: its shards belong to two writings; fetch or export all of them again"
        )
    try:
        about = json.loads(texts[first] or "")
        if about["format"] > FORMAT:
            raise ValueError(
                f"{first}: written by a newer autoddpm; upgrade it: pip install -U autoddpm"
            )
        whole = all(isinstance(about[name], kind) for name, kind in FIELDS.items())
        whole = (
            whole
            and isinstance(about["data"]["size"], int)
            and isinstance(about["data"]["train_subjects"], list)
        )
        whole = whole and all(map(_is_threshold, about["thresholds"]))
    except (json.JSONDecodeError, RecursionError, LookupError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise ValueError(
            f"{first}: has no description of autoddpm in it, or a damaged one; not a file of this "
            "program"
        )
    return about


def write_weights(
    trained: Trained, path: str | Path, half: bool = False, shard_bytes: int | None = None
) -> list[Path]:
    """Write a trained model with its record and its thresholds.

    An older file or older shards of the same name are replaced. Thresholds that were calibrated
    with other weights, or before the weights were rounded, are left out with a warning.

    path: must end in .safetensors.
    half: round the weights to float16.
    shard_bytes: split into shards of at most as many bytes, unless one file is enough. A single
        larger tensor is a shard of its own.

    Returns the paths of the files written.

    Raises ValueError if the path has another suffix or a shard's number. Raises it too if a weight
    is not finite, or too large for float16.
    """
    path = Path(path)
    if path.suffix != SUFFIX or SHARD.search(path.stem):
        raise ValueError(f"{path}: name the file to write x{SUFFIX}, without a shard's number")
    exact = {
        name: values.detach().cpu().contiguous()
        for name, values in trained.model.state_dict().items()
    }
    state = {name: values.half() if half else values.float() for name, values in exact.items()}
    if lost := [name for name, values in state.items() if not values.isfinite().all()]:
        raise ValueError(f"{path}: {lost[0]} is too large for half precision; write it in full")
    sha256 = _sha256(trained.config, state)
    unchanged = all(
        torch.equal(values.float(), exact[name].float()) for name, values in state.items()
    )
    text = _json(
        {
            "format": FORMAT,
            "weights_sha256": sha256,
            "model": trained.config,
            "data": trained.data,
            "step": trained.step,
            "record": trained.record,
            "thresholds": list(_still_true(trained, unchanged, sha256[:16])),
        }
    )
    parts = (
        list(_split(state, shard_bytes - len(json.dumps(text)) - 100)) if shard_bytes else [state]
    )
    stem = path.with_suffix("")
    names = [path] if len(parts) == 1 else _shard_names(stem, len(parts))
    path.parent.mkdir(parents=True, exist_ok=True)
    for name, part in zip(names, parts, strict=True):
        write_bytes(name, safetensors.torch.save(part, {"autoddpm": text}))
    for stale in {path, *_shards(stem)} - set(names):
        stale.unlink(missing_ok=True)
    return names


def known_thresholds(trained: Trained) -> list[dict[str, Any]]:
    """The thresholds stored in a model's file and those kept beside it, each once."""
    beside = read_thresholds(trained.path.with_suffix(".thresholds.json"))
    entries = [*trained.thresholds, *beside]
    return [entry for index, entry in enumerate(entries) if entry not in entries[:index]]


def read_thresholds(path: Path) -> list[dict[str, Any]]:
    """The thresholds kept in a file of their own, none if it is not there.

    Raises ValueError, naming the file, if it holds something else.
    """
    entries = read_json(path) if path.is_file() else []
    if not isinstance(entries, list) or not all(map(_is_threshold, entries)):
        raise ValueError(f"{path}: holds no thresholds; delete it, and they are calibrated anew")
    return entries


def _is_threshold(entry: Any) -> bool:
    """Whether a value from JSON is an entry of `thresholds`, see this module."""
    if not isinstance(entry, dict) or not isinstance(entry.get("conditions"), dict):
        return False
    conditions, value = entry["conditions"], entry.get("threshold")
    return (
        isinstance(value, float)
        and math.isfinite(value)
        and isinstance(conditions.get("weights_hash"), str)
        and isinstance(conditions.get("detector", {}), dict)
    )


def known_preparation(trained: Trained) -> dict[str, Any] | None:
    """How the slices that a model was trained on were made from volumes.

    It stands in the model's file or, for those that were written without, in x.preparation.json
    beside it. None if nobody says.

    modality: of the scans.
    slices, steps: of `autoddpm.preparation.cutting.Steps`.
    note: in words, what is not exact about it; may be missing.
    """
    beside = trained.path.with_suffix(".preparation.json")
    stated = trained.data.get("preparation") or (read_json(beside) if beside.is_file() else None)
    if stated and not (isinstance(stated, dict) and {"modality", "slices", "steps"} <= set(stated)):
        raise ValueError(f"{beside}: says no modality, slices and steps; fetch it again")
    return dict(stated) if stated else None


def _still_true(trained: Trained, unchanged: bool, weights_hash: str) -> Iterator[dict[str, Any]]:
    """The thresholds that hold for the weights as written, with the hash of these."""
    for entry in trained.thresholds:
        conditions = entry["conditions"]
        if conditions["weights_hash"] == weights_hash or (
            unchanged and conditions["weights_hash"] == trained.weights_hash
        ):
            yield entry | {"conditions": conditions | {"weights_hash": weights_hash}}
        else:
            log.warning(
                "a threshold of %s was calibrated with other weights than these: left out",
                conditions.get("detector"),
            )


def _split(state: Mapping[str, Tensor], limit: int) -> Iterator[dict[str, Tensor]]:
    """Parts of at most `limit` bytes, header included. A single larger tensor is a part."""
    part: dict[str, Tensor] = {}
    size = 0
    for name, values in state.items():
        needed = values.nbytes + len(json.dumps(name)) + 120
        if part and size + needed > limit:
            yield part
            part, size = {}, 0
        part[name] = values
        size += needed
    yield part


def _shard_names(stem: Path, total: int) -> list[Path]:
    return [
        stem.with_name(f"{stem.name}-{number:05d}-of-{total:05d}{SUFFIX}")
        for number in range(1, total + 1)
    ]


def _shards(stem: Path) -> list[Path]:
    found = stem.parent.glob(f"{glob.escape(stem.name)}-?????-of-?????{SUFFIX}")
    return sorted(file for file in found if SHARD.search(file.stem))


def open_safetensors(file: Path) -> Any:
    """Open a safetensors file for reading.

    Raises ValueError if it is none, or truncated.
    """
    try:
        return safe_open(file, framework="pt")
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{file}: not a safetensors file, or truncated ({error})") from error


def _sha256(model: Mapping[str, Any], state: Mapping[str, Tensor]) -> str:
    """The sha256 of a configuration, and of the names, types, shapes and bytes of tensors."""
    digest = hashlib.sha256(_json(model).encode())
    for name in sorted(state):
        values = state[name]
        digest.update(f"{name} {values.dtype} {list(values.shape)}".encode())
        digest.update(values.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _json(content: Any) -> str:
    return json.dumps(content, sort_keys=True, allow_nan=False)
