"""The authors' weights: the imported network estimates what theirs did, and a file that does not
fit is refused."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import compose_config
from monai.networks.nets.diffusion_model_unet import DiffusionModelUNet
from omegaconf import OmegaConf
from safetensors.torch import save_file
from test_trained import Bomb
from torch import Tensor

from autoddpm.models.authors_weights import PAPER_NETWORK, import_weights
from autoddpm.models.trained import load_checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = {**PAPER_NETWORK, "channels": [8, 16, 16], "num_head_channels": 8, "norm_num_groups": 4}


def network(**settings: Any) -> DiffusionModelUNet:
    """The small network of the authors' shape, no weight of it zero."""
    net = DiffusionModelUNet(**({k: v for k, v in SMALL.items() if k != "_target_"} | settings))
    generator = torch.Generator().manual_seed(0)
    for parameter in net.parameters():
        parameter.data = 0.2 * torch.randn(parameter.shape, generator=generator)
    return net.eval().requires_grad_(False)


def authors_names(net: DiffusionModelUNet) -> dict[str, Tensor]:
    """The weights as the authors' code names them: attention without `attn`, with a projection that
    is never called."""
    weights = {}
    for name, values in net.state_dict().items():
        block, attention, last = name.partition(".attn.")
        if attention:
            weights[f"unet.{block}.{last}"] = values
            if last.startswith("to_k"):
                weights[f"unet.{block}.{last.replace('to_k', 'proj_attn')}"] = torch.full_like(
                    values, 3.0
                )
        elif ".upsampler.postconv." in name:
            weights[f"unet.{name.replace('.upsampler.postconv.', '.upsampler.conv.')}"] = values
        else:
            weights[f"unet.{name}"] = values
    return weights


@pytest.fixture
def weights() -> dict[str, Tensor]:
    return authors_names(network())


def save(weights: Any, path: Path, **more: Any) -> Path:
    torch.save(
        {"model_weights": weights, "optimizer_weights": {"state": {}}, "epoch": 1499, **more}, path
    )
    return path


def refused(path: Path) -> str:
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        import_weights(path, network=SMALL)
    message = str(error.value)
    assert str(path) in message
    assert "\n" not in message
    assert not path.with_suffix(".safetensors").exists()
    return message


def test_the_imported_network_estimates_what_the_authors_did(
    weights: dict[str, Tensor], tmp_path: Path
) -> None:
    ddpm = load_checkpoint(import_weights(save(weights, tmp_path / "best.pt"), network=SMALL)).model
    x = torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    for t in (1, 200, 1000):
        expected = network()(x, torch.full((3,), t - 1))
        assert expected.std() > 0.1
        assert (ddpm.predict_eps(x, t) - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_bare_safetensors_weights_are_taken_and_not_overwritten(
    weights: dict[str, Tensor], tmp_path: Path
) -> None:
    plain = tmp_path / "best.safetensors"
    save_file(weights, plain)
    before = plain.read_bytes()
    with pytest.raises(ValueError, match=r"best\.safetensors: would be overwritten; .* --output"):
        import_weights(plain, network=SMALL)
    assert plain.read_bytes() == before
    written = import_weights(plain, tmp_path / "ours.safetensors", SMALL)
    of_torch = import_weights(save(weights, tmp_path / "torch.pt"), network=SMALL)
    assert load_checkpoint(written).weights_hash == load_checkpoint(of_torch).weights_hash
    with pytest.raises(ValueError, match=r"ours\.safetensors: a weights file of autoddpm already"):
        import_weights(written, tmp_path / "again.safetensors", SMALL)
    plain.write_bytes(before[:-100])
    with pytest.raises(
        ValueError, match=r"best\.safetensors: not a safetensors file, or truncated"
    ):
        import_weights(plain, tmp_path / "again.safetensors", SMALL)


def test_the_names_are_those_that_monai_knows_as_old(weights: dict[str, Tensor]) -> None:
    bare = {name.removeprefix("unet."): values for name, values in weights.items()}
    loaded = DiffusionModelUNet(**{k: v for k, v in SMALL.items() if k != "_target_"})
    loaded.load_old_state_dict(bare)  # takes out of `bare` what it uses
    assert {name.split(".")[-2] for name in bare} == {"proj_attn"}
    expected = network().state_dict()
    assert all(torch.equal(values, expected[name]) for name, values in loaded.state_dict().items())


def test_the_file_tells_the_network_s_purpose_and_its_origin(
    weights: dict[str, Tensor], tmp_path: Path
) -> None:
    source = save(weights, tmp_path / "best.pt")
    path = import_weights(source, tmp_path / "new" / "authors.safetensors", SMALL)
    assert path == tmp_path / "new" / "authors.safetensors"
    trained = load_checkpoint(path)
    assert (trained.model.low, trained.model.high, trained.model.schedule.T) == (0, 1, 1000)
    assert trained.config["noise"] == {"_target_": "autoddpm.diffusion.noise.gaussian.Gaussian"}
    assert trained.data == {"hash": None, "size": 128, "train_subjects": []}
    assert trained.step == 0
    note = trained.record.pop("note")
    assert "does not tell its training subjects" in note
    sha256 = hashlib.sha256(source.read_bytes()).hexdigest()
    assert trained.record == {"imported from": "best.pt", "sha256": sha256, "epoch": 1499}


def test_the_paper_s_network_is_that_of_conf_but_for_the_range() -> None:
    model = OmegaConf.to_container(compose_config("train", "model=paper").model, resolve=True)
    assert isinstance(model, dict)
    assert model["denoiser"] == PAPER_NETWORK


def test_weights_in_half_precision_or_with_lpips_are_taken(
    weights: dict[str, Tensor], tmp_path: Path
) -> None:
    half = {name: values.half() for name, values in weights.items()} | {
        "l_pips_sq.lin0.weight": torch.zeros(2)
    }
    trained = load_checkpoint(import_weights(save(half, tmp_path / "best.pt"), network=SMALL))
    exact = network().state_dict()
    for name, values in trained.model.denoiser.state_dict().items():
        assert values.dtype == torch.float32
        assert torch.equal(values, exact[name].half().float())


@pytest.mark.parametrize(
    "name",
    ["down_blocks.1.attentions.0.to_v.bias", "up_blocks.0.upsampler.conv.conv.weight"],
)
def test_a_missing_key_is_named(name: str, weights: dict[str, Tensor], tmp_path: Path) -> None:
    del weights[f"unet.{name}"]
    assert f"without unet.{name}, which" in refused(save(weights, tmp_path / "x.pt"))


@pytest.mark.parametrize(
    "name",
    [
        "conv_in.conv.weight",
        "unet.down_blocks.0.attentions.0.proj_attn.bias",
        "unet.down_blocks.1.attentions.0.attn.to_q.weight",
    ],
)
def test_a_key_left_over_is_named(name: str, weights: dict[str, Tensor], tmp_path: Path) -> None:
    weights[name] = torch.zeros(2)
    assert f": {name} has no place" in refused(save(weights, tmp_path / "x.pt"))


def test_keys_of_another_network_are_counted_and_some_named(tmp_path: Path) -> None:
    weights = authors_names(network(attention_levels=[False, False, True]))
    message = refused(save(weights, tmp_path / "x.pt"))
    assert "down_blocks.1.attentions.0.norm.weight" in message
    assert "more, which the network needs" in message
    assert len(message) < len(str(tmp_path)) + 300


def test_other_channels_are_refused_with_both_shapes(tmp_path: Path) -> None:
    message = refused(save(authors_names(network(channels=[16, 16, 16])), tmp_path / "x.pt"))
    assert (
        "unet.conv_in.conv.weight has the shape [16, 1, 3, 3], the paper's network has [8, 1, 3, 3]"
        in message
    )


def test_weights_that_are_not_finite_are_named(weights: dict[str, Tensor], tmp_path: Path) -> None:
    weights["unet.conv_in.conv.bias"][0] = float("nan")
    message = refused(save(weights, tmp_path / "x.pt"))
    assert "NaN or infinity" in message
    assert "conv_in.conv.bias" in message


@pytest.mark.parametrize("value", [None, torch.zeros(8, dtype=torch.long)])
def test_what_is_no_tensor_of_real_numbers_is_refused(
    value: Any, weights: dict[str, Tensor], tmp_path: Path
) -> None:
    message = refused(save(weights | {"unet.conv_in.conv.bias": value}, tmp_path / "x.pt"))
    assert "unet.conv_in.conv.bias is no tensor of real numbers" in message


def test_code_in_the_file_is_refused_and_not_run(
    weights: dict[str, Tensor], tmp_path: Path
) -> None:
    message = refused(save(weights, tmp_path / "x.pt", extra=Bomb(tmp_path / "boom")))
    assert "holds more than weights" in message
    assert not (tmp_path / "boom").exists()


@pytest.mark.parametrize("share", [0, 0.5, 0.999])
def test_a_truncated_file_is_refused(
    share: float, weights: dict[str, Tensor], tmp_path: Path
) -> None:
    path = save(weights, tmp_path / "x.pt")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    assert "truncated" in refused(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"state_dict": {}, "epoch": 1}, "has no `model_weights`.*found: state_dict, epoch"),
        (torch.zeros(2), "found: Tensor"),
        ({"hyper_parameters": {}, "state_dict": {}}, "a checkpoint of autoddpm already"),
    ],
)
def test_a_torch_file_of_another_kind_is_refused(content: Any, words: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(ValueError, match=words):
        import_weights(tmp_path / "x.pt", network=SMALL)


def test_what_is_no_torch_file_is_refused(tmp_path: Path) -> None:
    assert "no such file" in refused(tmp_path / "none.pt")
    (tmp_path / "x.pt").write_text("not weights\n")
    assert "no torch file" in refused(tmp_path / "x.pt")
