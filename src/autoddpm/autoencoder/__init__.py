"""The mathematics of the models that need one call: restoration and autoencoders, in PyTorch alone.

Their networks see a whole image and return a healthy one; there is no chain of times.
"""

IN_WEIGHTS_FILES = True  # a weights file may name the classes that are defined here
