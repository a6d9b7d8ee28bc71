"""The checkout's verbs (`python -m src.train`): they use this folder's autoddpm, whichever other
one is installed."""

import sys

sys.path.insert(0, __path__[0])
