"""What the training module feeds to the loss, how it weighs the validation loss, and the callbacks
of training."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import compose_config
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, Checkpoint, Timer
from omegaconf import OmegaConf
from PIL import Image
from scipy.stats import kstest
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from autoddpm.data.sample import Batch
from autoddpm.diffusion import ddpm as family
from autoddpm.diffusion.objective import Objective, bins
from autoddpm.models.trained import load_checkpoint
from autoddpm.training.callbacks import (
    EMA,
    LastCheckpoint,
    ReconstructionPicture,
    TrainingPicture,
    WeightsExport,
)
from autoddpm.training.module import TrainingModule

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:You are trying to `self.log:UserWarning"),
]

QUIET: dict[str, Any] = {"accelerator": "cpu", "devices": 1, "logger": False}
QUIET |= {"enable_progress_bar": False, "enable_model_summary": False}
IDS = [f"s/{number:02d}" for number in range(40)]


@pytest.fixture(scope="module")
def model() -> dict[str, Any]:
    model = OmegaConf.to_container(compose_config("train", "model=tiny").model, resolve=True)
    assert isinstance(model, dict)
    del model["objective"]
    return model


def batch_of(ids: list[str], epoch: int = 0, size: int = 16) -> Batch:
    """Slices whose images are functions of their ids."""
    images = [
        torch.rand(1, size, size, generator=torch.Generator().manual_seed(int(i[2:]))) for i in ids
    ]
    image = torch.stack(images)
    return Batch(
        image, torch.zeros_like(image, dtype=torch.bool), ids, torch.full((len(ids),), epoch)
    )


class Spy:
    """Stands in for the loss of a DDPM and keeps what it was given; the loss is t, so that it can
    be followed."""

    def __init__(self) -> None:
        self.x0: list[Tensor] = []
        self.t: list[Tensor] = []
        self.eps: list[Tensor] = []

    def __call__(self, x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        self.x0.append(x0)
        self.t.append(t)
        self.eps.append(eps)
        return t.float()


@pytest.fixture
def spied(
    model: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[TrainingModule, Spy]]:
    """Gives a module whose loss is spied on, and the spy."""

    def spy_on(**settings: Any) -> tuple[TrainingModule, Spy]:
        module, spy = TrainingModule(model | settings.pop("model", {}), data={}, **settings), Spy()
        monkeypatch.setattr(module.model, "noise_error", spy)
        return module, spy

    return spy_on


def validate(module: TrainingModule, *batches: Batch) -> dict[str, float]:
    """The losses that a validation over these batches logs."""
    trainer = Trainer(**QUIET, enable_checkpointing=False)
    trainer.validate(module, DataLoader(list(batches), batch_size=None), verbose=False)
    return {name: value.item() for name, value in trainer.callback_metrics.items()}


# the training step


def test_the_loss_is_of_images_in_the_models_range(spied: Any) -> None:
    module, spy = spied(model={"data_range": [-1, 1]}, augmentation=False)
    batch = batch_of(IDS[:3])
    module.training_step(batch, 0)
    assert torch.equal(spy.x0[0], 2 * batch.image - 1)
    validate(module, batch)
    assert torch.equal(spy.x0[1], 2 * batch.image - 1)


def test_the_loss_is_the_mean_over_the_batch(spied: Any) -> None:
    module, spy = spied()
    assert float(module.training_step(batch_of(IDS[:5]), 0)) == float(spy.t[0].float().mean())


def test_training_times_are_uniform_over_1_to_t_max(spied: Any) -> None:
    module, spy = spied(augmentation=False)
    for epoch in range(60):
        module.training_step(batch_of(IDS, epoch, size=2), 0)
    t = torch.cat(spy.t).numpy()
    assert 1 <= t.min() < 10
    assert 990 < t.max() <= 1000
    assert kstest((t - 0.5) / 1000, "uniform").pvalue > 0.01


def test_the_objective_is_that_of_the_settings(model: dict[str, Any]) -> None:
    objective = {"_target_": "autoddpm.diffusion.objective.Objective", "t_focus": 100}
    module = TrainingModule(model, data={}, objective=objective)
    assert module.model.objective == Objective(t_focus=100)
    assert "objective" not in module.hparams["model"]
    assert module.hparams["objective"] == objective


def test_a_share_of_shifted_slices_that_cannot_be_is_refused(model: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="shift"):
        TrainingModule(model, data={}, shift=1.5)


def test_noise_and_time_differ_between_slices_epochs_and_seeds(spied: Any) -> None:
    module, spy = spied(augmentation=False)
    for epoch in range(3):
        module.training_step(batch_of(IDS[:4], epoch), 0)
    other, other_spy = spied(augmentation=False, seed=1)
    other.training_step(batch_of(IDS[:4]), 0)
    eps = torch.cat([*spy.eps, *other_spy.eps]).flatten(1)
    correlation = np.corrcoef(eps.numpy()) - np.eye(len(eps))
    assert abs(correlation).max() < 0.3  # 256 pixels: a standard deviation of 1/16
    assert len(set(torch.cat([*spy.t, *other_spy.t]).tolist())) > 12


def test_augmentation_differs_per_epoch_and_can_be_switched_off(spied: Any) -> None:
    module, spy = spied()
    for epoch in (0, 1, 1):
        module.training_step(batch_of(IDS[:4], epoch), 0)
    first, second, again = spy.x0
    assert torch.equal(second, again)
    assert all(not torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert all(
        not torch.equal(a, b) for a, b in zip(first, 2 * batch_of(IDS[:4]).image - 1, strict=True)
    )


def test_a_slice_s_training_draws_do_not_depend_on_its_batch(spied: Any) -> None:
    module, spy = spied()
    module.training_step(batch_of(IDS[:5], epoch=2), 0)
    module.training_step(batch_of([IDS[9], IDS[3]], epoch=2), 7)
    assert torch.equal(spy.t[0][3], spy.t[1][1])
    assert torch.equal(spy.eps[0][3], spy.eps[1][1])
    torch.testing.assert_close(spy.x0[0][3], spy.x0[1][1], atol=1e-6, rtol=0)


def test_the_initial_weights_are_a_function_of_the_seed_alone(model: dict[str, Any]) -> None:
    def weights(seed: int) -> Tensor:
        torch.rand(1)  # moves the global stream
        return torch.cat(
            [p.flatten() for p in TrainingModule(model, data={}, seed=seed).parameters()]
        )

    state = torch.random.get_rng_state()
    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))
    torch.random.set_rng_state(state)
    TrainingModule(model, data={})
    assert torch.equal(torch.random.get_rng_state(), state)


# the validation step


def test_the_bins_cover_1_to_T_without_gap_or_overlap() -> None:  # noqa: N802
    assert bins(1000) == [(0, 50), (50, 100), (100, 200), (200, 300), (300, 500), (500, 1000)]
    assert bins(100) == [(0, 50), (50, 100)]
    assert bins(2000)[-1] == (1000, 2000)
    assert bins(20) == [(0, 20)]


def test_the_validation_loss_is_a_mean_over_times_and_per_bin(spied: Any) -> None:
    module, spy = spied()
    logged = validate(module, batch_of(IDS[:7]), batch_of(IDS[7:9]))  # batches of unlike size
    names = {f"val/loss_t{low + 1:04d}-{high:04d}": (low, high) for low, high in bins(1000)}
    assert set(logged) == {*names, "val/loss"}
    expected = 0.0
    for index, (name, (low, high)) in enumerate(names.items()):
        t = torch.cat(spy.t[index :: len(names)])
        assert len(t) == 9
        assert low < t.min()
        assert t.max() <= high
        assert logged[name] == pytest.approx(float(t.float().mean()), rel=1e-6)
        expected += float(t.float().mean()) * (high - low) / 1000
    assert logged["val/loss"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("u", "expected"),
    [(2.0**-33, [1, 51, 101, 201, 301, 501]), (1 - 2.0**-33, [50, 100, 200, 300, 500, 1000])],
)
def test_the_extreme_times_of_a_bin_are_its_own(
    u: float, expected: list[int], spied: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, spy = spied()
    monkeypatch.setattr(
        family,
        "uniform",
        lambda keys, count, *_: torch.full((len(keys), count), u, dtype=torch.float64),
    )
    validate(module, batch_of(IDS[:1]))
    assert torch.cat(spy.t).tolist() == expected


def test_the_validation_loss_ignores_batches_and_global_stream(spied: Any) -> None:
    together, spy = spied()
    logged = validate(together, batch_of(IDS[:6]))
    alone, other_spy = spied()
    torch.rand(5)
    others = validate(alone, *(batch_of(IDS[number : number + 1], epoch=3) for number in range(6)))
    assert torch.equal(
        torch.cat(spy.eps).view(6, 6, -1), torch.cat(other_spy.eps).view(6, 6, -1).transpose(0, 1)
    )
    assert logged == pytest.approx(others, rel=1e-6)


def test_a_second_validation_does_not_remember_the_first(spied: Any) -> None:
    module, _ = spied()
    first = validate(module, batch_of(IDS[:3]))
    other = validate(module, batch_of(IDS[3:6]))
    assert first["val/loss"] != other["val/loss"]
    assert validate(module, batch_of(IDS[:3])) == first


# callbacks


class Line(LightningModule):
    """Learns one number; the quickest thing to train."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([5.0], dtype=torch.float64))

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return (self.weight * batch).square().mean()

    def validation_step(self, batch: Tensor, batch_idx: int) -> None: ...

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Watch(Callback):
    """Keeps the weight after each step and each validation's, as other callbacks see them."""

    def __init__(self) -> None:
        self.trained: list[float] = []
        self.validated: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self.trained.append(pl_module.weight.item())

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, *_: Any
    ) -> None:
        self.validated.append(pl_module.weight.item())


def fit(folder: Path, callbacks: list[Callback], max_steps: int = 5, **settings: Any) -> None:
    settings |= QUIET | {"max_steps": max_steps, "num_sanity_val_steps": 0}
    saves = any(isinstance(callback, Checkpoint) for callback in callbacks)
    trainer = Trainer(
        callbacks=callbacks, enable_checkpointing=saves, default_root_dir=folder, **settings
    )
    loader = DataLoader(torch.ones(20, dtype=torch.float64), batch_size=4)
    trainer.fit(Line(), loader, loader if settings.get("val_check_interval") else None)


@pytest.mark.parametrize("decay", [0.999, 0.2])
def test_the_average_warms_up_as_its_formula_says(decay: float, tmp_path: Path) -> None:
    watch = Watch()
    fit(tmp_path, [watch, EMA(decay), LastCheckpoint(tmp_path, every_n_steps=100)])
    average = watch.trained[0]  # the first is taken over whole
    for n, weight in enumerate(watch.trained[1:], start=1):
        d = min(decay, (1 + n) / (10 + n))
        average = d * average + (1 - d) * weight
    content = torch.load(tmp_path / "last.ckpt")
    assert float(content["state_dict"]["weight"]) == pytest.approx(average, rel=1e-9)
    assert float(content["current_model_state"]["weight"]) == watch.trained[-1]
    assert average != pytest.approx(watch.trained[-1], rel=1e-3)


def test_the_average_follows_the_model_to_its_device():
    ema = EMA()
    ema._average_model = AveragedModel(nn.Linear(2, 1))
    ema.on_fit_start(SimpleNamespace(), SimpleNamespace(device=torch.device("meta")))
    assert {p.device.type for p in ema._average_model.parameters()} == {"meta"}


def test_validation_sees_the_average_and_training_its_weights(
    tmp_path: Path,
) -> None:
    with_validation, without = Watch(), Watch()
    fit(
        tmp_path,
        [with_validation, EMA()],
        val_check_interval=2,
        check_val_every_n_epoch=None,
        limit_val_batches=1,
    )
    fit(tmp_path, [without, EMA()])
    assert with_validation.trained == without.trained
    w1, w2 = with_validation.trained[:2]
    assert with_validation.validated[0] == pytest.approx(2 / 11 * w1 + 9 / 11 * w2, rel=1e-9)


@pytest.mark.parametrize(
    ("max_steps", "accumulate", "expected"),
    [(5, 1, [2, 4, 5]), (4, 1, [2, 4]), (1, 1, [1]), (3, 2, [2, 3])],
)
def test_the_last_checkpoint_is_saved_once_per_multiple_and_end(
    max_steps: int,
    accumulate: int,
    expected: list[int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    saved: list[int] = []
    original = Trainer.save_checkpoint

    def save(trainer: Trainer, path: Path, *rest: Any) -> None:
        saved.append(trainer.global_step)
        assert Path(path) == tmp_path / "last.ckpt"
        original(trainer, path, *rest)

    monkeypatch.setattr(Trainer, "save_checkpoint", save)
    fit(
        tmp_path,
        [LastCheckpoint(tmp_path, every_n_steps=2)],
        max_steps,
        accumulate_grad_batches=accumulate,
    )
    assert saved == expected
    assert torch.load(tmp_path / "last.ckpt")["global_step"] == max_steps


def test_the_learning_rate_warms_up_and_is_zero_at_the_last_step(
    model: dict[str, Any],
) -> None:
    module = TrainingModule(model, data={}, lr=0.1, warmup_steps=4)
    module._trainer = type("T", (), {"estimated_stepping_batches": 20})()
    configured = module.configure_optimizers()
    factor = configured["lr_scheduler"]["scheduler"].lr_lambdas[0]
    assert configured["lr_scheduler"]["interval"] == "step"
    assert [factor(step) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    falling = [factor(step) for step in range(4, 21)]
    assert falling == sorted(falling, reverse=True)
    assert factor(12) == pytest.approx(0.5)
    assert factor(20) == pytest.approx(0, abs=1e-12)


def test_the_learning_rate_falls_to_zero_if_the_time_ends_first(model: dict[str, Any]) -> None:
    module, timer = TrainingModule(model, data={}, lr=0.1, warmup_steps=2), Timer({"minutes": 1})
    seconds = [0.0]
    timer.time_elapsed, timer.time_remaining = lambda: seconds[0], lambda: 60 - seconds[0]  # type: ignore[method-assign]
    module._trainer = SimpleNamespace(estimated_stepping_batches=float("inf"), callbacks=[timer])
    factor = module.configure_optimizers()["lr_scheduler"]["scheduler"].lr_lambdas[0]
    found = []
    for seconds[0] in (0.0, 15.0, 30.0, 60.0, 61.0):
        found.append(factor(1000))
    assert found == pytest.approx([1, 0.5 * (1 + np.cos(np.pi / 4)), 0.5, 0, 0], abs=1e-9)
    assert factor(0) == 0.5  # warm-up is by steps


def test_a_training_ended_by_time_keeps_checkpoint_and_weights(
    model: dict[str, Any], tmp_path: Path
) -> None:
    module = TrainingModule(
        model, {"hash": "x", "size": 16, "train_subjects": ["a"]}, warmup_steps=1
    )
    callbacks = [
        EMA(),
        WeightsExport(tmp_path / "x.safetensors", every_minutes=60, shard_bytes=20_000),
        LastCheckpoint(tmp_path, every_minutes=60),
    ]
    limits = {"max_steps": 100_000, "max_time": {"seconds": 2}}
    trainer = Trainer(**QUIET, **limits, callbacks=callbacks, default_root_dir=tmp_path)
    trainer.fit(module, DataLoader([batch_of(IDS[:2])] * 5, batch_size=None))
    content = torch.load(tmp_path / "last.ckpt")
    step = trainer.global_step
    assert 3 <= content["global_step"] == step < 100_000
    written = load_checkpoint(tmp_path / "x.safetensors")
    assert len(list(tmp_path.glob("x-*-of-*.safetensors"))) > 1
    assert (written.step, written.data["train_subjects"]) == (step, ["a"])
    for name, values in written.model.state_dict().items():
        torch.testing.assert_close(values, content["state_dict"][f"model.{name}"].half().float())


def test_weights_are_kept_every_so_many_minutes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, written = [0.0], []
    monkeypatch.setattr("autoddpm.training.callbacks.time.monotonic", lambda: clock[0])
    monkeypatch.setattr(
        "autoddpm.training.callbacks.write_weights",
        lambda trained, *a, **k: written.append(trained.step),
    )
    export = WeightsExport(tmp_path / "x.safetensors", every_minutes=1)
    pl_module = SimpleNamespace(hparams={"model": {}, "data": {}}, model=None)
    for step, clock[0] in enumerate((10.0, 59.0, 61.0, 100.0, 122.0), start=1):
        trainer = SimpleNamespace(
            global_step=step, max_steps=-1, should_stop=False, is_global_zero=True, callbacks=[]
        )
        export.on_train_batch_end(trainer, pl_module)
    assert written == [3, 5]


@pytest.fixture
def picture_of(model: dict[str, Any], tmp_path: Path) -> Callable[..., list[Path]]:
    """Writes the picture after a validation at some step and gives the files that are there."""
    module = TrainingModule(model, data={})

    def write(callback: ReconstructionPicture, step: int, max_steps: int = 100) -> list[Path]:
        trainer = SimpleNamespace(
            sanity_checking=False,
            is_global_zero=True,
            global_step=step,
            max_steps=max_steps,
            should_stop=False,
            val_dataloaders=[[batch_of(IDS[:3])]],
        )
        callback.on_validation_epoch_end(trainer, module)
        return sorted(path for path in tmp_path.iterdir())

    return write


def test_a_picture_shows_slices_above_their_reconstructions(
    picture_of: Any, tmp_path: Path
) -> None:
    (path,) = picture_of(ReconstructionPicture(tmp_path, every_n_validations=1, slices=2), 8)
    pixels = np.asarray(Image.open(path))
    assert path.name == "reconstruction_step0000008.png"
    assert pixels.shape == (32, 32)  # two slices of 16 x 16, twice
    image = (batch_of(IDS[:2]).image[:, 0].numpy() * 255).round().astype(np.uint8)
    assert np.array_equal(pixels[:16], np.concatenate(list(image), axis=1))
    assert not np.array_equal(pixels[16:], pixels[:16])


def test_pictures_come_every_n_validations_and_at_the_last_step(
    picture_of: Any, tmp_path: Path
) -> None:
    callback = ReconstructionPicture(tmp_path, every_n_validations=2, slices=1)
    counts = [len(picture_of(callback, step)) for step in (10, 20, 30, 40, 100)]
    assert counts == [0, 1, 1, 2, 3]


def test_a_picture_shows_what_the_network_sees_epoch_by_epoch(
    model: dict[str, Any], tmp_path: Path
) -> None:
    module, batch = TrainingModule(model, data={}), batch_of(IDS[:3])
    callback = TrainingPicture(tmp_path, images=5, across=3)
    trainer = SimpleNamespace(global_step=0, is_global_zero=True)
    callback.on_train_batch_start(trainer, module, batch, 0)
    seen = torch.cat([module.seen(batch, batch.epoch + n) for n in range(2)])[:, 0].clamp(0, 1)
    pixels = np.asarray(Image.open(tmp_path / "training.png"))
    expected = (seen.numpy() * 255).round().astype(np.uint8)
    assert pixels.shape == (32, 48)  # three slices of 16 x 16, and two
    assert np.array_equal(pixels[:16], np.concatenate(list(expected[:3]), axis=1))
    assert np.array_equal(pixels[16:, :32], np.concatenate(list(expected[3:5]), axis=1))
    assert not pixels[16:, 32:].any()
