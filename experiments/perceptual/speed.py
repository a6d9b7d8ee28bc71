"""CPU seconds per slice of each LPIPS on one core, at full and at half resolution; random weights
cost the same.

usage: python experiments/perceptual/speed.py
"""

from statistics import median
from time import process_time

import lpips
import torch

from autoddpm.detectors.lpips_network import lpips_map

SLICES, SIDE, REPEATS = 16, 128, 5


@torch.no_grad()
def main() -> None:
    torch.set_num_threads(1)
    image, reconstruction = torch.rand(
        2, SLICES, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0)
    )
    print("| network | full resolution | half |\n|---|---|---|")
    for net in ("vgg", "alex", "squeeze"):
        network = lpips.LPIPS(net=net, pnet_rand=True, spatial=True, verbose=False).eval()
        times = []
        for scale in (1.0, 0.5):
            lpips_map(network, reconstruction, image, scale)
            taken = []
            for _ in range(REPEATS):
                start = process_time()
                lpips_map(network, reconstruction, image, scale)
                taken.append((process_time() - start) / SLICES)
            times.append(f"{median(taken):.4f} s")
        print(f"| {net} | {' | '.join(times)} |", flush=True)


if __name__ == "__main__":
    main()
