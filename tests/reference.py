"""Slow oracles, written from the paper and from definitions: loops, float64, one slice, nothing of
the library.

Times are the paper's. A network is a function (x_t, index) -> eps with the 0-based index t-1; noise
is a function (draw, t, repeat) -> (H, W). Images are (H, W) arrays.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy import ndimage

Network = Callable[[np.ndarray, int], np.ndarray]
Noise = Callable[[str, int, int], np.ndarray]


def philox(counter: Sequence[int], key: Sequence[int]) -> list[int]:
    """Philox4x32-10 as printed by Salmon et al. (2011), in Python's unbounded integers."""
    c, k = list(counter), list(key)
    for _ in range(10):
        high0, low0 = divmod(0xD2511F53 * c[0], 2**32)
        high1, low1 = divmod(0xCD9E8D57 * c[2], 2**32)
        c = [high1 ^ c[1] ^ k[0], low1, high0 ^ c[3] ^ k[1], low0]
        k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
    return c


def box_muller(words: Sequence[int], count: int) -> list[float]:
    """Normals of 32-bit words: the first half gives the radii, the second half the angles."""
    half = (count + 1) // 2
    u = [(word + 0.5) / 2**32 for word in words[: 2 * half]]
    cosines = [
        math.sqrt(-2 * math.log(u[i])) * math.cos(2 * math.pi * u[half + i]) for i in range(half)
    ]
    sines = [
        math.sqrt(-2 * math.log(u[i])) * math.sin(2 * math.pi * u[half + i]) for i in range(half)
    ]
    return (cosines + sines)[:count]


def betas(T: int, first: float, last: float) -> list[float]:  # noqa: N803
    """beta_0 .. beta_T with beta_0 = 0: the clean image."""
    return [0.0, *(first + (last - first) * i / (T - 1) for i in range(T))]


def alpha_bars(beta: Sequence[float]) -> list[float]:
    """Products of 1 - beta up to each time."""
    products = [1.0]
    for value in beta[1:]:
        products.append(products[-1] * (1 - value))
    return products


def forward(x: np.ndarray, s: int, t: int, beta: Sequence[float], eps: np.ndarray) -> np.ndarray:
    """x_s noised to x_t: the moments of Eq. (1), taken one step at a time from s+1 to t."""
    scale, variance = 1.0, 0.0
    for i in range(s + 1, t + 1):
        scale *= math.sqrt(1 - beta[i])
        variance = (1 - beta[i]) * variance + beta[i]
    return scale * x + math.sqrt(variance) * eps


def posterior(
    x_t: np.ndarray, x0: np.ndarray, t: int, s: int, beta: Sequence[float]
) -> tuple[np.ndarray, float]:
    """Mean and variance of q(x_s | x_t, x_0) by Bayes' rule: the product of two Gaussians in
    x_s."""
    if s == 0:
        return x0, 0.0
    alpha_bar = alpha_bars(beta)
    ratio = math.prod(1 - beta[i] for i in range(s + 1, t + 1))
    prior, likelihood = 1 / (1 - alpha_bar[s]), ratio / (1 - ratio)  # precisions
    mean = (prior * math.sqrt(alpha_bar[s]) * x0 + likelihood * x_t / math.sqrt(ratio)) / (
        prior + likelihood
    )
    return mean, 1 / (prior + likelihood)


def ancestral(
    network: Network, x_t: np.ndarray, t: int, s: int, beta: Sequence[float], eps: np.ndarray
) -> np.ndarray:
    """A draw of p(x_s | x_t), with x_0 estimated from the network's eps and clipped."""
    alpha_bar = alpha_bars(beta)[t]
    x0 = (x_t - math.sqrt(1 - alpha_bar) * network(x_t, t - 1)) / math.sqrt(alpha_bar)
    mean, variance = posterior(x_t, np.clip(x0, -1, 1), t, s, beta)
    return mean + math.sqrt(variance) * eps


def reconstruct(
    network: Network, x: np.ndarray, t: int, stride: int, beta: Sequence[float], noise: Noise
) -> np.ndarray:
    """Section 3.1: noise to t, denoise to 0."""
    x_t = forward(x, 0, t, beta, noise("FORWARD", t, 0))
    while t > 0:
        s = max(t - stride, 0)
        x_t = ancestral(network, x_t, t, s, beta, noise("ANCESTRAL", t, 0))
        t = s
    return x_t


def resample(
    network: Network,
    x: np.ndarray,
    x_hat: np.ndarray,
    mask: np.ndarray,
    t: int,
    passes: int,
    stride: int,
    beta: Sequence[float],
    noise: Noise,
) -> np.ndarray:
    """Sections 3.2 and 3.3: `passes` denoising passes at each t with passes - 1 re-noisings between
    them."""
    x_t = forward(x_hat, 0, t, beta, noise("FORWARD", t, 0))
    while t > 0:
        s = max(t - stride, 0)
        done = 0
        while True:
            context = forward(x, 0, s, beta, noise("CONTEXT", t, done))  # (10), at the level of x_s
            healthy = ancestral(network, x_t, t, s, beta, noise("ANCESTRAL", t, done))  # (11)
            x_s = (1 - mask) * context + mask * healthy  # (12)
            done += 1
            if done == passes:
                break
            x_t = forward(x_s, s, t, beta, noise("RENOISE", t, done))  # (13)
        x_t, t = x_s, s
    return x_t


def norm95(residual: np.ndarray) -> np.ndarray:
    """Over its 95th percentile, at most 1; a pixel of 0 stays 0."""
    percentile = np.percentile(residual, 95)
    result = np.zeros_like(residual)
    for index, value in np.ndenumerate(residual):
        if value > 0:
            result[index] = 1.0 if value >= percentile else value / percentile
    return result


def auto_ddpm(
    network: Network,
    image: np.ndarray,
    beta: Sequence[float],
    t: int,
    t_resample: int,
    passes: int,
    stride: int,
    threshold: float,
    dilation: int,
    distance: Callable[[np.ndarray, np.ndarray], np.ndarray],
    first_noise: Noise,
    second_noise: Noise,
) -> dict[str, np.ndarray]:
    """The whole of section 3 for one image in [0, 1] and a network on [-1, 1]; the last map is a
    plain residual."""

    def decode(x: np.ndarray) -> np.ndarray:
        return np.clip((x + 1) / 2, 0, 1)

    initial = decode(reconstruct(network, 2 * image - 1, t, stride, beta, first_noise))
    initial_map = norm95(np.abs(initial - image)) * distance(initial, image)  # (9)
    mask = ndimage.binary_dilation(initial_map > threshold, np.ones((dilation, dilation)))
    x = resample(
        network,
        2 * image - 1,
        2 * initial - 1,
        mask.astype(float),
        t_resample,
        passes,
        stride,
        beta,
        second_noise,
    )
    reconstruction = np.where(mask, decode(x), image)
    return {
        "initial_reconstruction": initial,
        "initial_map": initial_map,
        "mask": mask,
        "stitched": np.where(mask, initial, image),
        "reconstruction": reconstruction,
        "anomaly_map": np.abs(reconstruction - image),
    }


def dice(flagged: np.ndarray, lesion: np.ndarray) -> float:
    """2 |A and B| / (|A| + |B|), pixel by pixel."""
    both = sets = 0
    for a, b in zip(flagged.ravel().tolist(), lesion.ravel().tolist(), strict=True):
        both += bool(a and b)
        sets += bool(a) + bool(b)
    return 2 * both / sets


def max_dice(scores: np.ndarray, lesion: np.ndarray) -> float:
    """The best Dice of all sets {score >= threshold}, one threshold after the other."""
    return max(dice(scores >= threshold, lesion) for threshold in np.unique(scores))


def grid_dice(scores: np.ndarray, lesion: np.ndarray) -> float:
    """The best Dice of the thresholds 0.00, 0.01, ..., 1.00."""
    return max(dice(scores > threshold, lesion) for threshold in np.arange(0, 101) / 100)
