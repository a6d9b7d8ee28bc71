"""VAE and ceVAE: the divergence's closed form and derivative, and what each is trained on."""

import pytest
import torch
from monai.networks.nets import AutoencoderKL
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from autoddpm.autoencoder.vae import VAE, VAEObjective, divergence, half_squares
from autoddpm.models.model import Model
from autoddpm.random import Draw, Stage, normal, slice_keys
from autoddpm.settings import lacking

IDS = ["a", "b", "c"]


class Halves(nn.Module):
    """A code of the image's halves, with a deviation that the image decides, too."""

    def encode(self, image: Tensor) -> tuple[Tensor, Tensor]:
        return image / 2, 0.1 + image

    def decode(self, code: Tensor) -> Tensor:
        return 2 * code


def keys(ids: list[str] = IDS) -> Tensor:
    return slice_keys(0, ids)


@pytest.fixture
def images() -> Tensor:
    return torch.rand(3, 1, 32, 32, generator=torch.Generator().manual_seed(0))


def autoencoder() -> AutoencoderKL:
    torch.manual_seed(0)
    return AutoencoderKL(
        2,
        channels=[4, 8],
        num_res_blocks=[1, 1],
        attention_levels=[False, False],
        latent_channels=2,
        norm_num_groups=4,
        with_encoder_nonlocal_attn=False,
        with_decoder_nonlocal_attn=False,
    )


def test_the_divergence_is_that_of_two_gaussians():
    mean, deviation = torch.randn(3, 2, 4, 4), 0.1 + torch.rand(3, 2, 4, 4)
    expected = kl_divergence(Normal(mean, deviation), Normal(0.0, 1.0)).sum((1, 2, 3))
    torch.testing.assert_close(divergence(mean, deviation), expected)
    assert divergence(torch.zeros(1, 5), torch.ones(1, 5)) == 0


def test_its_derivative_is_that_of_finite_differences(images):
    vae = VAE(autoencoder()).double()
    vae.encode = vae.network.encode  # without the rounding to float32
    image, step = images[:1].double(), 1e-5
    gradient = vae.kl_gradient(image)
    for row, column in [(0, 0), (7, 19), (31, 30)]:
        moved = torch.zeros_like(image)
        moved[..., row, column] = step
        with torch.no_grad():
            above, below = (divergence(*vae.encode(image + one)) for one in (moved, -moved))
        expected = (above - below) / (2 * step)
        torch.testing.assert_close(gradient[0, 0, row, column][None], expected, rtol=1e-5, atol=0)


def test_a_slice_has_its_own_derivative_in_any_batch(images):
    vae = VAE(autoencoder())
    together = vae.kl_gradient(images)
    torch.testing.assert_close(vae.kl_gradient(images[1:2])[0], together[1])


def test_the_derivative_is_there_in_inference_mode_too(images):
    vae = VAE(autoencoder()).requires_grad_(False)
    with torch.inference_mode():
        inner = vae.kl_gradient(images.clone())
    torch.testing.assert_close(inner, vae.kl_gradient(images))


def test_the_vae_s_loss_is_minus_the_evidence_bound(images):
    vae = VAE(Halves(), objective=VAEObjective(kl_weight=0.2))
    assert lacking(vae, Model) == []
    mean, deviation = Halves().encode(images)
    eps = normal(keys(), 32 * 32, Stage.TRAINING, Draw.FORWARD, 5).view_as(images)
    prior, values = Normal(0.0, 1.0), 32 * 32
    likelihood = Normal(Halves().decode(mean + deviation * eps), 0.2**0.5).log_prob(images)
    bound = (likelihood - kl_divergence(Normal(mean, deviation), prior)).sum((1, 2, 3))
    constant = -values * torch.log(torch.tensor(2 * torch.pi * 0.2)) / 2
    loss = vae.loss(images, keys(), torch.tensor([5, 5, 5]))
    torch.testing.assert_close(loss, 0.2 * (constant - bound) / values)
    assert torch.equal(vae.seen(images, keys(), 5), images)


def test_half_of_a_cevae_s_loss_is_of_squares(images):
    epoch = torch.tensor([5, 5, 5])
    plain = VAE(Halves()).loss(images, keys(), epoch)
    cevae = VAE(Halves(), context_weight=0.5)
    masked = cevae.objective.masked(images, keys(), Stage.TRAINING, 5)
    expected = (plain + half_squares(masked, images)) / 2  # Halves gives back what it is shown
    torch.testing.assert_close(cevae.loss(images, keys(), epoch), expected)
    assert torch.equal(cevae.seen(images, keys(), epoch), masked)


def test_squares_are_a_function_of_key_stage_and_epoch(images):
    found, epochs = VAEObjective(), torch.tensor([1, 2, 3])
    together = found.masked(images, keys(), Stage.TRAINING, epochs)
    alone = found.masked(images[1:2], keys(["b"]), Stage.TRAINING, 2)
    assert torch.equal(alone[0], together[1])
    for other in (
        found.masked(images, keys(), Stage.TRAINING, epochs + 1),
        found.masked(images, keys(), Stage.VALIDATION, epochs),
    ):
        assert not torch.equal(together, other)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_one_square_is_whole_and_as_large_as_it_may_be(dimensions):
    ids = [str(n) for n in range(200)]
    image = torch.full((200, 1, *[24] * dimensions), 2.0)
    found = VAEObjective(boxes=1, box=0.5).masked(image, slice_keys(0, ids), Stage.TRAINING)
    noise = found[found != 2]
    assert 0 < noise.min() < 0.01
    assert 0.99 < noise.max() < 1
    sides = []
    for one in found[:, 0] != 2:
        extents = [one.movedim(axis, 0).flatten(1).any(1).sum() for axis in range(dimensions)]
        assert len({int(extent) for extent in extents}) == 1  # a square
        assert one.sum() == extents[0] ** dimensions  # and a full one
        sides.append(int(extents[0]))
    assert min(sides) == 1
    assert max(sides) == 12
    covered = (found[:, 0] != 2).any(0)
    for axis in range(dimensions):  # they come anywhere, the edges too
        assert covered.movedim(axis, 0).flatten(1).any(1).all()


def test_the_validation_has_the_same_codes_each_time(images):
    vae = VAE(Halves(), context_weight=0.5)
    first, again = (vae.validation_losses(images, keys()) for _ in range(2))
    assert list(first) == vae.validation_names
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not first["error_untouched"].any()


def test_only_a_cevae_shows_squares(images):
    shown = VAE(Halves(), context_weight=0.5).example(images, IDS)
    assert list(shown) == ["healthy", "restored", "masked", "filled"]
    assert list(VAE(Halves()).example(images, IDS)) == ["healthy", "restored"]


def test_a_step_downhill_lowers_its_loss(images):
    vae, epoch = VAE(autoencoder(), context_weight=0.5), torch.zeros(3).long()
    optimizer = torch.optim.SGD(vae.parameters(), lr=1e-2)
    before = vae.loss(images, keys(), epoch).mean()
    before.backward()
    optimizer.step()
    with torch.no_grad():
        assert vae.loss(images, keys(), epoch).mean() < before


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"kl_weight": -1}, r"objective\.kl_weight=-1: must be 0 or more"),
        ({"boxes": 0}, r"objective\.boxes=0: must be a whole number of 1 or more"),
        ({"box": 1.5}, r"objective\.box=1.5: must be above 0 and at most 1"),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(settings, words):
    with pytest.raises(ValueError, match=words):
        VAEObjective(**settings)


def test_a_loss_of_squares_alone_is_refused():
    with pytest.raises(ValueError, match=r"model\.context_weight=1.0: must be in \[0, 1\)"):
        VAE(Halves(), context_weight=1.0)
