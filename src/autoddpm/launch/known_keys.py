"""Refusal of settings that nothing reads."""

import inspect
import re
from collections.abc import Collection

from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_object
from omegaconf import DictConfig

HYDRAS = {"_target_", "_partial_", "_convert_", "_recursive_", "_args_"}


def refuse_unknown_keys(name: str, group: DictConfig, known: Collection[str]) -> None:
    """Raise ValueError if a group of settings has a key that nothing reads.

    name: of the group.
    known: the keys that are read. Those that build an object are searched too.
    """
    if unknown := sorted(set(map(str, group)) - set(known)):
        raise ValueError(
            f"unknown setting {name}.{unknown[0]}; {name} has "
            f"{', '.join(sorted(set(known) - HYDRAS))}"
        )
    for key in map(str, group):
        part = group[key]
        if not isinstance(part, DictConfig) or "_target_" not in part:
            continue
        parameters = inspect.signature(get_object(part["_target_"])).parameters
        if all(each.kind is not each.VAR_KEYWORD for each in parameters.values()):
            refuse_unknown_keys(f"{name}.{key}", part, HYDRAS | set(parameters))


def refuse_added_settings() -> None:
    """Raise ValueError if the command line adds a setting of its own at the top, `+exclude=[x]`.

    Groups are added so, as in `+experiment=ixi`, and settings within one. Nothing would read this.
    """
    if not HydraConfig.initialized():
        return
    groups = HydraConfig.get().runtime.choices
    for override in HydraConfig.get().overrides.task:
        added = re.match(r"\+(\w+)=", override)
        if added and added[1] not in groups:
            raise ValueError(
                f"+{added[1]}: there is no such setting, and nothing would read it; leave it out, "
                "--help shows the configuration"
            )
