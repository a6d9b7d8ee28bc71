"""What the name of a file says that it is: a mask, or another contrast than the one asked for."""

import re

#: p001_seg, p001-Label, p001_lesion_mask: the mask of p001.
MASK = re.compile(
    r"(?P<image>.*[^/])[_\-. ]"
    r"(?:mask|seg|segmentation|label|lesion|gt|roi|annotation|dseg|probseg)s?",
    re.I,
)
#: Ends of names of other contrasts, in lower case: those of BIDS, and others that are usual.
OTHER_CONTRASTS = {
    *("flair", "t2w", "t2star", "pdw", "inplanet2", "angio", "bold", "sbref", "dwi", "epi"),
    *("phasediff", "magnitude1", "magnitude2"),
    *("t2", "adc", "swi", "mra", "dti", "t1ce", "t1gd"),
}
LAST_WORD = re.compile(r"[^_\-. ]+$")


def image_of_mask(key: str) -> str | None:
    """The image whose mask a file is by its ending; None if it has no such ending.

    key: its path without suffix.
    """
    found = MASK.fullmatch(key)
    return None if found is None else (image_of_mask(found["image"]) or found["image"])


def no_scan(name: str, wanted: str) -> str:
    """Why a file is no scan of a contrast, by its name. Empty if its name does not say so.

    name: without suffix.
    wanted: the contrast as BIDS calls it, such as T1w.
    """
    if image_of_mask(f"x_{name}") is not None:  # seg.nii.gz too
        return "its name says that it is a mask"
    word = found[0] if (found := LAST_WORD.search(name)) else ""
    if word.lower() in OTHER_CONTRASTS - {wanted.lower(), wanted.lower().removesuffix("w")}:
        return f"its name says {word}, and not {wanted}"
    return ""
