"""The mathematics of denoising diffusion: Eqs. (1)-(4), (8), (10)-(13) of the paper, in PyTorch
alone."""
