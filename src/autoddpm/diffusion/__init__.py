"""The mathematics of denoising diffusion: Eqs. (1)-(4), (8) and (10)-(13), in PyTorch alone."""

IN_WEIGHTS_FILES = True  # a weights file may name the classes that are defined here
