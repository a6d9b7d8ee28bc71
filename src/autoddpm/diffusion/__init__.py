"""The mathematics of denoising diffusion, in PyTorch alone: weights files name its classes, so
they stay.

Eqs. (1)-(4), (8) and (10)-(13) of the paper.
"""

IN_WEIGHTS_FILES = True  # a weights file may name the classes that are defined here
