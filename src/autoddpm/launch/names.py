"""Names of run folders, the resolvers that `conf/` uses, and whether a folder may be continued."""

import hashlib
import json
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from autoddpm.atomic import read_json, write_json
from autoddpm.home import at_home
from autoddpm.launch.help import choices_help
from autoddpm.machine.devices import gpus_of_job, jobs_at_once
from autoddpm.models.trained import weights_hash


def register_resolvers() -> None:
    """Register what `conf/` uses: `slug` and `weights_hash`, which name run folders, and others."""
    OmegaConf.register_new_resolver("choices_help", choices_help, replace=True)
    OmegaConf.register_new_resolver("gpus_of_job", gpus_of_job, replace=True)
    OmegaConf.register_new_resolver("jobs_at_once", jobs_at_once, replace=True)
    OmegaConf.register_new_resolver("home", lambda path: str(at_home(path)), replace=True)
    OmegaConf.register_new_resolver("slug", slug, replace=True)
    OmegaConf.register_new_resolver("until", until, replace=True)
    OmegaConf.register_new_resolver("weights_hash", _weights_hash, replace=True)


def slug(text: str | None) -> str:
    """A folder's name that needs no quotes in an override; "default" if there are no overrides.

    A file system takes names of 255 bytes: the end of a longer text is replaced by its hash.
    """
    name = re.sub(r"[^A-Za-z0-9._+-]", "_", text or "") or "default"
    return (
        name
        if len(name) <= 200
        else f"{name[:190]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    )


def until(most: int, moment: int) -> str:
    """The time until a moment, as `trainer.max_time` takes it: a slow start takes from it alone.

    most: seconds that it is at most.
    moment: in seconds since 1970.
    """
    seconds = max(1, min(most, moment - int(time.time())))
    return f"00:{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def _weights_hash(path: str | None) -> str:
    try:
        return weights_hash(at_home(path))[:8] if path else "no-weights"
    except (OSError, ValueError):
        return "no-weights"  # the verb refuses it with a reason


def check_same_run(folder: Path, settings: Mapping[str, Any]) -> None:
    """Write down the settings of a new training.

    Raises ValueError if the folder holds a training that was begun with other settings.
    """
    noted, settings = folder / "settings.json", json.loads(json.dumps(settings))
    if not noted.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_json(noted, settings)
    before = read_json(noted)
    differing = sorted(key for key in {*before, *settings} if before.get(key) != settings.get(key))
    if differing:
        raise ValueError(
            f"{folder} holds a run with another {', '.join(differing)}: give this one a name of "
            "its own (name=...), or move that folder away"
        )
