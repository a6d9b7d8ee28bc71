"""What an error of a library means to a user: one line that names the setting and the remedy."""

import errno
import os
import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    InstantiationException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf.errors import OmegaConfBaseException

from autoddpm.allowance import is_out_of_memory
from autoddpm.extras import EXTRAS as NEEDED

#: Packages that are installed on request, by the module or the config that is missing.
EXTRAS = {
    **dict.fromkeys(("joblib", "hydra_plugins.hydra_joblib_launcher"), "sweeps"),
    **dict.fromkeys(("submitit", "submitit_slurm", "submitit_local"), "sweeps"),
    **dict.fromkeys(("optuna", "wandb", "tensorboard", "tensorboardX"), None),
    **dict.fromkeys(("SimpleITK", "deepbet", "h5py"), "prepare"),
    **dict.fromkeys(("stlpips_pytorch",), "perceptual"),
    **{name: extra for extra, names in NEEDED.items() for name in names},
    **{"bokeh": "report", "numba": "train"},
}
#: Words in the messages of libraries, and what they mean. Of the first that is found.
SAID = {
    r"DataLoader worker.*(Bus error|shared memory)|unable to (open|mmap) .*shm": (
        "the shared memory of this machine, or container, is too small: data.num_workers=0, or "
        "give the container more (docker run --shm-size=8g)"
    ),
    r"DataLoader worker .*(killed|exited)": (
        "a process that reads slices was killed, most likely for want of memory: data.num_workers=0"
    ),
    r"PytorchStreamWriter|file write failed|No space left on device": (
        "a file could not be written whole, most likely since the disk is full: free some space, "
        "or name another place (paths.runs=DIR), and give the same command again"
    ),
    r"no kernel image|not compatible with the current PyTorch|driver .*too old|libcuda": (
        "this PyTorch does not fit this GPU or its driver: install the one that does "
        "(pytorch.org), or use trainer=cpu"
    ),
    r"CUDA error|cuDNN|NCCL|CUBLAS": (
        "the GPU failed: see nvidia-smi whether another program uses it, or use trainer=cpu"
    ),
    r"are you indeed on a slurm cluster": (
        "this machine is no node of a Slurm cluster: give the command on the login node, or take "
        "hydra/launcher=gpus"
    ),
    r"--ntasks|SLURM|srun": (
        "Slurm's number of tasks does not go with trainer.devices: give srun --ntasks-per-node as "
        "many as trainer.devices, or start the command without srun"
    ),
    r"cannot cache function|NUMBA_CACHE_DIR": (
        "a package cannot write its cache: set NUMBA_CACHE_DIR to a folder that may be written"
    ),
    r"float64.*MPS|MPS.*float64|not (currently )?implemented for the MPS": (
        "Apple's GPU lacks an operation: use trainer=cpu"
    ),
    r"No supported gpu backend|No CUDA GPUs|CUDAAccelerator|requested gpu|GPU.*(not|none)": (
        "this machine has no such GPU: use trainer=cpu, or fewer trainer.devices"
    ),
}
OUT_OF_MEMORY = (
    "use a smaller batch (data.batch_size=4, data.eval_batch_size=1), fewer processes, or a "
    "smaller model"
)
LONGEST = 400

Paths = Mapping[str, str]


def traceback_wanted() -> bool:
    """Whether HYDRA_FULL_ERROR asks for the whole traceback instead of one line."""
    return os.environ.get("HYDRA_FULL_ERROR", "0") != "0"


def reason(error: BaseException, paths: Paths | None = None) -> str:
    """The line for any error. Arguments as `known_reason`."""
    known = known_reason(error, paths or {})
    if known is not None:
        return known
    cause = innermost(error)
    return (
        f"{type(cause).__name__}: {one_line(str(cause))}. This was not expected: "
        "HYDRA_FULL_ERROR=1 before the same command shows where it comes from"
    )


def known_reason(error: BaseException, paths: Paths) -> str | None:
    """What an error means, and the remedy. None if it is none that a user can mend.

    paths: by setting, the folders that it may be about.
    """
    cause = innermost(error)
    if isinstance(cause, MissingConfigException):
        return _of_missing_choice(cause)
    if isinstance(cause, OSError):
        return of_system(cause, paths)
    if is_out_of_memory(cause):
        return f"out of memory ({one_line(str(cause), 120) or 'of the machine'}): {OUT_OF_MEMORY}"
    if isinstance(cause, HydraException | OmegaConfBaseException):
        return _of_hydra(cause)
    if isinstance(cause, ImportError):
        return _of_import(cause)
    if isinstance(cause, TypeError) and cause is not error:
        return _of_arguments(cause, error)
    if type(cause).__module__.split(".")[0] == "wandb":
        return _of_wandb(cause)
    for words, meaning in SAID.items():
        if re.search(words, str(cause), re.IGNORECASE) and _is_of_a_library(cause):
            return f"{meaning} ({one_line(str(cause), 160)})"
    if type(cause).__name__ == "MisconfigurationException":
        return f"the settings of trainer do not go together: {one_line(str(cause))}"
    if not isinstance(cause, ValueError):
        return None
    group = re.search(r"full_key: ([\w.]+)", str(error)) if cause is not error else None
    if group is None or not _is_of_a_library(cause):
        return str(cause)
    text = one_line(str(cause))
    number = re.search(r"(?:invalid literal for int.*|could not convert .* to float): '(.*)'", text)
    given = [key for key, value in _given() if number and value == number[1]]
    return (
        f"{given[0]}={number[1]}: must be a number" if number and given else f"{group[1]}: {text}"
    )


def _given() -> list[tuple[str, str]]:
    """The settings that the command line gives, and their values as text."""
    if not HydraConfig.initialized():
        return []
    given = [one.partition("=") for one in HydraConfig.get().overrides.task]
    return [(key.lstrip("+"), value.strip("'\"")) for key, _, value in given]


def innermost(error: BaseException) -> BaseException:
    """The error behind Hydra's: it raises one for each level of a configuration."""
    while isinstance(error, InstantiationException) and error.__cause__ is not None:
        error = error.__cause__
    return error


def one_line(text: str, longest: int = LONGEST) -> str:
    """A text without line breaks, cut where it gets too long."""
    line = " ".join(text.split()).rstrip(".")
    return line if len(line) <= longest else f"{line[:longest]} ..."


def of_system(error: OSError, paths: Paths) -> str:
    """What the operating system refused: the file first, then the remedy.

    Errors of our own have a text instead of a number, and keep it.
    """
    if error.errno is None or error.strerror is None:
        return str(error)
    # Of a copy the second name is where it was to go.
    name = error.filename2 or error.filename
    file = os.fsdecode(name) if isinstance(name, str | bytes) else ""
    place = f"name another place: {_setting_of(file, paths)}=DIR"
    again = "and give the same command again"
    remedy = {
        errno.ENOSPC: f"the disk is full; free some space, or {place}, {again}",
        errno.EDQUOT: f"your share of the disk is full; free some space, or {place}, {again}",
        errno.EROFS: f"lies on a file system that cannot be written; {place}",
        errno.EACCES: f"permission denied; give yourself the right to it, or {place}",
        errno.EPERM: f"permission denied; give yourself the right to it, or {place}",
        errno.ENOENT: f"there is no such file or folder; correct the path, or {place}",
        errno.EEXIST: f"is there already, and no folder; move it away, or {place}",
        errno.ENOTDIR: f"a file is where a folder is needed; move it away, or {place}",
        errno.EISDIR: "is a folder, and a file is needed; correct the path",
        errno.ENAMETOOLONG: "the name is too long for this disk; give a shorter one (name=...)",
        errno.EMFILE: "too many files are open; allow more (ulimit -n 4096), or fewer processes",
        errno.ENOMEM: f"out of memory; {OUT_OF_MEMORY}",
        errno.EIO: "the disk reports an error; look after the disk, and restore the file",
        errno.ESTALE: "the network's disk has lost the file; give the same command again",
    }.get(error.errno, f"{error.strerror}; correct the path, or {place}")
    return f"{file or 'the disk'}: {remedy}"


def _setting_of(file: str, paths: Paths) -> str:
    """The setting whose folder a file lies in, or is above of."""
    if not file:
        return "paths.runs"
    at = Path(file).absolute()
    folders = {key: Path(value).absolute() for key, value in paths.items()}
    holding = {key: one for key, one in folders.items() if at.is_relative_to(one)}
    if not holding:
        holding = {key: one for key, one in folders.items() if one.is_relative_to(at)}
    return max(holding, key=lambda key: len(holding[key].parts), default="paths.runs")


def _of_hydra(error: BaseException) -> str:
    if isinstance(error, OverrideParseException):
        what = error.message.split("See http")[0].split("\n", 1)[-1]
        return (
            f"{error.override}: is not understood ({one_line(what, 120)}); say KEY=VALUE, "
            "and put what has brackets, quotes or commas in two kinds of quotes: "
            "'KEY=\"VALUE\"'; for several values add -m"
        )
    cause = error.__cause__ if isinstance(error, ConfigCompositionException) else error
    text = one_line(re.sub(r"See https\S+ for details|Error parsing override \S+", "", str(error)))
    if found := re.search(r"Could not override '([^']+)'", text):
        return _of_unknown_key(found[1].lstrip("+"), cause)
    if "config group" in text or "mandatory" in text.lower():
        return f"{text}; --help lists the choices"
    if "Ambiguous value" in text or "multirun" in text.lower():
        return f"{text}: several values need -m; a value with a comma needs quotes"
    key = getattr(cause, "full_key", None)
    return f"{f'{key}: ' if key else ''}{text}; --help shows the configuration"


def _of_unknown_key(key: str, cause: BaseException | None) -> str:
    if cause is not None and not _is_about_a_key(cause):
        return f"{key}: {one_line(str(cause).splitlines()[0])}; --help shows the configuration"
    parent = getattr(cause, "parent_node", None)
    known = sorted(map(str, parent)) if parent is not None and hasattr(parent, "keys") else []
    group = f"{key.rpartition('.')[0]}." if "." in key else ""
    near = get_close_matches(key.rpartition(".")[2], known, n=1, cutoff=0.5)
    guess = f"did you mean {group}{near[0]}? " if near and f"{group}{near[0]}" != key else ""
    listed = f"There are {', '.join(known[:12])}; " if known else ""
    return f"{key}: there is no such setting; {guess}{listed}--help shows the configuration"


def _is_about_a_key(error: BaseException) -> bool:
    return type(error).__name__ in ("ConfigAttributeError", "ConfigKeyError")


def _of_missing_choice(error: MissingConfigException) -> str:
    wanted = error.missing_cfg_file or ""
    group, _, choice = wanted.rpartition("/")
    extra = next((one for one in EXTRAS if choice and one == choice), None)
    if extra is not None and group.startswith("hydra"):
        return f"{wanted}: {_install(extra)}"
    if not group:
        return f"{one_line(str(error))}; --help shows the choices"
    options = list(error.options or [])
    near = get_close_matches(choice, options, n=1, cutoff=0.5)
    guess = f"did you mean {near[0]}? " if near else ""
    there = f"There are {', '.join(options)}" if options else "--help lists the groups"
    return f"{group}={choice}: there is no such choice; {guess}{there}"


def _of_import(error: ImportError) -> str | None:
    name = (error.name or "").split(".")[0]
    if name in EXTRAS:
        return f"the package {name} is not installed: {_install(name)}"
    if not name:  # ours, with its remedy
        return str(error)
    return f"the package {name} cannot be imported ({one_line(str(error))})"


def _install(name: str) -> str:
    return f"pip install 'autoddpm[{EXTRAS[name] or name.removesuffix('X')}]'"


def _of_arguments(error: TypeError, outer: BaseException) -> str | None:
    """An argument that the object of a configuration does not take."""
    group = re.search(r"full_key: ([\w.]+)", str(outer))
    named = re.search(r"unexpected keyword argument '(\w+)'", str(error))
    where = f"{group[1]}." if group else ""
    if named:
        return f"{where}{named[1]}: there is no such setting; leave it out, --help shows what is"
    told = ", ".join(f"{key}={value}" for key, value in _given() if where and key.startswith(where))
    name = where.rstrip(".") or "a setting"
    return f"{name}: {one_line(str(error))}; correct its settings{told and f', given are {told}'}"


def _of_wandb(error: BaseException) -> str:
    return (
        f"Weights & Biases cannot be reached or does not know you ({one_line(str(error), 160)}): "
        "run `wandb login`, or stay offline (logger.wandb.offline=true, report.wandb=offline)"
    )


def _is_of_a_library(error: BaseException) -> bool:
    """Whether an error was raised outside of this package: ours have their remedy."""
    trace, file = error.__traceback__, ""
    while trace is not None:
        file, trace = trace.tb_frame.f_code.co_filename, trace.tb_next
    own = str(Path(__file__).resolve().parents[1])
    return not file.startswith(own)
