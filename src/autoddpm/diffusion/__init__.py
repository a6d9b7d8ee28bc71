"""The mathematics of denoising diffusion, in PyTorch only: weights files name its classes, so
these keep their names.

Eqs. (1)-(4), (8) and (10)-(13) of the paper.
"""

IN_WEIGHTS_FILES = True  # a weights file may name the classes that are defined here
