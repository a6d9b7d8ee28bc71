"""Is another engine faster on this CPU than PyTorch? Times, errors, detections.

    OMP_NUM_THREADS=1 taskset -c 0 python experiments/bench/engine_speed.py
    OMP_NUM_THREADS=1 taskset -c 0 python experiments/bench/engine_speed.py paper 128 1

The first is compact, 128 px, with the weights ixi-small, 1, 4 and 16 slices at once; the second
names network, px and numbers of slices. Needs openvino, nncf, onnx, onnxscript and onnxruntime,
best in an environment of their own, and IXI's slices (AUTODDPM_DATA). Each takes about 10 minutes
of a core. Times are CPU seconds of this process, which is to have one thread, so that a machine in
use spoils them less: medians of variants that take turns.

Error: largest difference of the estimated noise from PyTorch's in fp32, of test slices noised to
several times. int8 is calibrated on noised healthy slices. ONNX Runtime has no bf16 for CPUs. A
network without released weights is untrained, with small random weights where it starts with zeros,
and nothing is detected with it.
"""

import copy
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import nncf
import numpy as np
import onnxruntime
import openvino
import torch
from detection_speed import CONF, network
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor, nn

from autoddpm.data.sample import Batch
from autoddpm.detectors.anomaly_map import residual
from autoddpm.detectors.autoddpm import AutoDDPM
from autoddpm.detectors.detector import detect
from autoddpm.detectors.perceptual import default_distance
from autoddpm.diffusion.ddpm import DDPM
from autoddpm.diffusion.sampler import Ancestral
from autoddpm.machine.acceleration import LAYOUTS
from autoddpm.machine.memory import keep_freed_memory
from autoddpm.metrics.counts import histograms
from autoddpm.metrics.localization import HEALTHY_FPRS, healthy_threshold, localization
from autoddpm.metrics.statistics import interval, subject_weights
from autoddpm.models.trained import load_checkpoint

WEIGHTS = {"compact": "ixi-small"}
START = {0.0: 200, -1.0: 331}  # t of the same noise, by the lowest value of the model's range
REPEATS, STRIDE, CALIBRATED, ERROR_TIMES = 5, 25, 60, (1, 50, 100, 200, 300)
THREADS = {
    "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    "NUM_STREAMS": 1,
    "ENABLE_CPU_PINNING": False,
}
REFERENCE = "PyTorch fp32, channels_last"
DETECT = (
    REFERENCE,
    "ONNX Runtime fp32",
    "PyTorch bf16, channels_last",
    "OpenVINO bf16",
    "OpenVINO int8",
)
COLUMNS = (
    "engine",
    "s per slice",
    "AnoDDPM: largest difference",
    "AUPRC",
    "max Dice",
    "AutoDDPM: largest difference",
    "mask pixels that differ",
    "largest difference where none does",
    "AUPRC",
    "max Dice",
)
Inputs = list[tuple[Tensor, Tensor]]


class Data(NamedTuple):
    """IXI's validation subjects: healthy slices to calibrate on, phantom lesions to test on."""

    healthy: list[Batch]
    test: list[Batch]
    subjects: list[str]


class TorchCall(nn.Module):
    """The network in PyTorch. precision: fp32; bf16, by autocast; or bf16 weights, without it."""

    def __init__(self, denoiser: nn.Module, layout: str, precision: str) -> None:
        super().__init__()
        self.network = copy.deepcopy(denoiser).to(memory_format=LAYOUTS[layout])
        self.amp = precision == "bf16"
        self.dtype = torch.bfloat16 if precision == "bf16 weights" else torch.float32
        self.network.to(self.dtype)

    @torch.no_grad()
    def forward(self, x: Tensor, times: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.amp):
            return self.network(x.to(self.dtype), times).float()


class OpenVINOCall(nn.Module):
    """A converted network, compiled for each number of slices that it meets, or for any at once."""

    def __init__(self, model: openvino.Model, precision: str, any_number: bool = False) -> None:
        super().__init__()
        self.model, self.precision, self.any_number = model, precision, any_number
        self.requests: dict[int, openvino.InferRequest] = {}

    def forward(self, x: Tensor, times: Tensor) -> Tensor:
        key = 0 if self.any_number else len(x)
        if key not in self.requests:
            model = self.model.clone()
            if key:
                model.reshape({0: openvino.PartialShape(x.shape), 1: openvino.PartialShape([key])})
            settings = THREADS | {"INFERENCE_PRECISION_HINT": self.precision}
            compiled = openvino.Core().compile_model(model, "CPU", settings)
            self.requests[key] = compiled.create_infer_request()
        inputs = [x.contiguous().numpy(), times.numpy()]
        return torch.from_numpy(self.requests[key].infer(inputs, share_inputs=True)[0])


class OnnxCall(nn.Module):
    def __init__(self, file: Path) -> None:
        super().__init__()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
        options.log_severity_level = 3
        providers = ["CPUExecutionProvider"]
        self.session = onnxruntime.InferenceSession(str(file), options, providers=providers)

    def forward(self, x: Tensor, times: Tensor) -> Tensor:
        return torch.from_numpy(self.session.run(None, named(x, times))[0])


class Reader(CalibrationDataReader):
    def __init__(self, inputs: Inputs) -> None:
        self.items: Iterator[dict[str, np.ndarray]] = iter([named(*item) for item in inputs])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.items, None)


def named(x: Tensor, times: Tensor) -> dict[str, np.ndarray]:
    return {"x": x.contiguous().numpy(), "times": times.numpy()}


def slices(size: int) -> Data:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        settings = ["+experiment=ixi_tuning", "data.eval_batch_size=16", f"data.size={size}"]
        data = instantiate(compose("evaluate", settings).data, _convert_="all")
    data.prepare_data()
    data.setup("test")
    subjects = data.index("test")["subject"].tolist()
    return Data(list(data.loader("calibrate")), list(data.loader("test")), subjects)


def model(name: str) -> DDPM:
    if name in WEIGHTS:
        return load_checkpoint(WEIGHTS[name]).model
    ddpm, generator = network(name), torch.Generator().manual_seed(0)
    for weights in ddpm.parameters():
        if not weights.any():
            weights.copy_(0.02 * torch.randn(weights.shape, generator=generator))
    return ddpm


def noised(ddpm: DDPM, images: Tensor, times: Tensor, seed: int) -> Inputs:
    """One slice and time each, as the network takes them."""
    eps = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed))
    x_t = ddpm.q_sample(ddpm.encode(images), times, eps)
    return list(zip(x_t.split(1), (times - 1).split(1), strict=True))


def calibration(ddpm: DDPM, images: Tensor) -> Inputs:
    """Healthy slices at CALIBRATED times, spread evenly over those that a detection meets."""
    times = torch.linspace(1, START[ddpm.low], CALIBRATED).long()
    return noised(ddpm, images[torch.arange(CALIBRATED) % len(images)], times, 0)


def variants(ddpm: DDPM, inputs: Inputs, folder: Path) -> dict[str, nn.Module]:
    """Every way to call the network, the reference first."""
    calls: dict[str, nn.Module] = {
        f"PyTorch {precision}, {layout}": TorchCall(ddpm.denoiser, layout, precision)
        for precision in ("fp32", "bf16", "bf16 weights")
        for layout in ("channels_last", "contiguous")
    }
    example = tuple(part.repeat(2, *[1] * (part.ndim - 1)) for part in inputs[0])
    plain = TorchCall(ddpm.denoiser, "contiguous", "fp32").network
    size = example[0].shape[-1]
    shapes = [openvino.PartialShape([-1, 1, size, size]), openvino.PartialShape([-1])]
    with torch.no_grad():
        converted = openvino.convert_model(plain, example_input=example, input=shapes)
        torch.onnx.export(
            plain,
            example,
            folder / "fp32.onnx",
            input_names=["x", "times"],
            output_names=["eps"],
            verbose=False,
            dynamic_shapes=({0: torch.export.Dim("b")}, {0: torch.export.Dim("b")}),
            dynamo=True,
            opset_version=18,
            external_data=False,
        )
    arrays = nncf.Dataset([tuple(part.numpy() for part in item) for item in inputs])
    mixed = nncf.QuantizationPreset.MIXED
    quantized = nncf.quantize(converted.clone(), arrays, subset_size=len(inputs), preset=mixed)
    quant_pre_process(folder / "fp32.onnx", folder / "ready.onnx", skip_symbolic_shape=True)
    quantize_static(
        folder / "ready.onnx",
        folder / "int8.onnx",
        Reader(inputs),
        QuantFormat.QDQ,
        op_types_to_quantize=["Conv"],  # with its matrix products too it does not load
        per_channel=True,
    )
    return calls | {
        "OpenVINO fp32": OpenVINOCall(converted, "f32"),
        "OpenVINO bf16": OpenVINOCall(converted, "bf16"),
        "OpenVINO bf16, compiled for any number": OpenVINOCall(converted, "bf16", any_number=True),
        "OpenVINO int8": OpenVINOCall(quantized, "bf16"),  # what is not quantised is in bf16
        "ONNX Runtime fp32": OnnxCall(folder / "fp32.onnx"),
        "ONNX Runtime int8": OnnxCall(folder / "int8.onnx"),
    }


def times_of_calls(calls: dict[str, nn.Module], inputs: Inputs, batch: int) -> dict[str, float]:
    """Median CPU milliseconds per slice of each variant, `batch` at once, in turns."""
    chosen = [inputs[i % len(inputs)] for i in range(batch)]
    x, times = (torch.cat(parts) for parts in zip(*chosen, strict=True))
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for repeat in range(REPEATS + 1):
        for name, call in calls.items():
            start = time.process_time()
            call(x, times)
            if repeat:
                taken[name].append(time.process_time() - start)
    return {name: 1e3 * statistics.median(values) / batch for name, values in taken.items()}


def errors(calls: dict[str, nn.Module], inputs: Inputs) -> dict[str, float]:
    expected = [calls[REFERENCE](*item) for item in inputs]
    off = {}
    for name, call in calls.items():
        pairs = zip(inputs, expected, strict=True)
        off[name] = max(float((call(*item) - one).abs().max()) for item, one in pairs)
    return off


def with_call(ddpm: DDPM, call: nn.Module) -> DDPM:
    other = copy.copy(ddpm)
    other._modules = ddpm._modules | {"denoiser": call}
    return other


def detected(ddpm: DDPM, batches: list[Batch], threshold: float) -> dict[str, np.ndarray]:
    """AutoDDPM's maps and masks, and AnoDDPM's maps of its initial reconstructions, (N, H, W)."""
    detector = AutoDDPM(
        ddpm,
        Ancestral(STRIDE),
        default_distance(),
        residual,
        t=START[ddpm.low],
        mask_threshold=threshold,
    )
    found: dict[str, list[Tensor]] = {"AnoDDPM": [], "AutoDDPM": [], "mask": [], "initial_map": []}
    for batch in batches:
        detection = detect(detector, batch)
        initial = detection.stages["initial_reconstruction"]
        found["AnoDDPM"].append(residual(batch.image, initial, lambda a, b: torch.ones_like(a)))
        found["AutoDDPM"].append(detection.anomaly_map)
        for name in ("mask", "initial_map"):
            found[name].append(detection.stages[name])
    return {name: torch.cat(parts)[:, 0].numpy() for name, parts in found.items()}


def detections(ddpm: DDPM, calls: dict[str, nn.Module], data: Data) -> None:
    """Print what each engine's detections give, beside the reference's."""
    healthy = detected(with_call(ddpm, calls[REFERENCE]), data.healthy, torch.inf)["initial_map"]
    threshold = healthy_threshold(healthy, HEALTHY_FPRS["healthy_fpr5"])
    lesion = torch.cat([batch.lesion for batch in data.test])[:, 0].numpy()
    has_lesion = lesion.any(axis=(1, 2))
    weights = subject_weights(data.subjects, has_lesion)[:, has_lesion]
    print(f"\n{len(lesion)} slices, t={START[ddpm.low]} on the model's range, stride {STRIDE}\n")
    print("|", " | ".join(COLUMNS), "|\n" + len(COLUMNS) * "|---" + "|")
    expected: dict[str, np.ndarray] = {}
    for name in DETECT:
        start = time.process_time()
        found = detected(with_call(ddpm, calls[name]), data.test, threshold)
        seconds = (time.process_time() - start) / len(lesion)
        expected = expected or found
        flipped = found["mask"] != expected["mask"]
        off = {key: np.abs(found[key] - expected[key]) for key in ("AnoDDPM", "AutoDDPM")}
        most = {key: f"{values.max():.1e}" for key, values in off.items()}
        same = off["AutoDDPM"][~flipped.any(axis=(1, 2))]
        elsewhere = f"{same.max():.1e} ({len(same)} slices)" if len(same) else "no such slice"
        scores = {}
        for key in off:
            counts = histograms(found[key][has_lesion], lesion[has_lesion])
            own = localization(counts)[:2]
            spans = map(interval, localization(counts, weights)[:2])
            scores[key] = " | ".join(
                f"{100 * value[0]:.2f} [{100 * span.low:.2f}, {100 * span.high:.2f}]"
                for value, span in zip(own, spans, strict=True)
            )
        ano = f"{most['AnoDDPM']} | {scores['AnoDDPM']}"
        auto = f"{most['AutoDDPM']} | {flipped.mean():.1e} | {elsewhere} | {scores['AutoDDPM']}"
        print(f"| {name} | {seconds:.2f} | {ano} | {auto} |", flush=True)


def cpu() -> str:
    flags = Path("/proc/cpuinfo").read_text()
    names = [name for name in ("avx512f", "avx512_bf16", "amx_bf16", "amx_int8") if name in flags]
    return f"{openvino.Core().get_property('CPU', 'FULL_DEVICE_NAME')} ({', '.join(names)})"


@torch.no_grad()
def main(name: str = "compact", size: int = 128, *batches: int) -> None:
    keep_freed_memory()
    data, ddpm = slices(size), model(name)
    inputs = calibration(ddpm, torch.cat([batch.image for batch in data.healthy]))
    test = torch.cat([batch.image for batch in data.test])
    checked = noised(ddpm, test[: len(ERROR_TIMES)], torch.tensor(ERROR_TIMES), 1)
    with tempfile.TemporaryDirectory() as folder:
        calls = variants(ddpm, inputs, Path(folder))
    packages = ("torch", "openvino", "nncf", "onnxruntime")
    versions = ", ".join(f"{one} {version(one)}" for one in packages)
    print(f"\n{cpu()}, {torch.get_num_threads()} thread; {versions}\n")
    off = errors(calls, checked)
    milliseconds = {batch: times_of_calls(calls, checked, batch) for batch in batches or (1, 4, 16)}
    said = " | ".join(f"ms per slice, {batch} at once" for batch in milliseconds)
    print(f"| {name}, {size} px | {said} | error |")
    print("|---" * (len(milliseconds) + 2) + "|")
    for one in calls:
        said = " | ".join(f"{of[one]:.1f}" for of in milliseconds.values())
        print(f"| {one} | {said} | {off[one]:.1e} |", flush=True)
    if name in WEIGHTS:
        detections(ddpm, calls, data)


if __name__ == "__main__":
    main(*(int(word) if word.isdigit() else word for word in sys.argv[1:]))
