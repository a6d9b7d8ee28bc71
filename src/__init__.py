"""The checkout's verbs, such as `python -m src.train`.

They use this folder's autoddpm, even if another one is installed.
"""

import sys

sys.path.insert(0, __path__[0])
