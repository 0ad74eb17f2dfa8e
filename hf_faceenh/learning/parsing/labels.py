"""The regions of a face: those of CelebAMask-HQ, and the ten of them that the parser knows."""

import numpy as np

LABELS = ("background", "skin", "nose", "l_eye", "r_eye", "l_brow", "r_brow", "mouth", "u_lip", "l_lip")
CELEBAMASK_HQ = (
    *("background", "skin", "nose", "eye_g", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear", "r_ear"),
    *("mouth", "u_lip", "l_lip", "hair", "hat", "ear_r", "neck_l", "neck", "cloth"),
)
COUNTED_AS = {"eye_g": "skin"}
MIRRORED = {"l_eye": "r_eye", "r_eye": "l_eye", "l_brow": "r_brow", "r_brow": "l_brow"}  # l_lip is the lower one


def to_label_ids() -> np.ndarray:
    """Id in CelebAMask-HQ → id in `LABELS`; 255 for ids that CelebAMask-HQ does not have."""
    table = np.full(256, 255, np.uint8)
    for i, name in enumerate(CELEBAMASK_HQ):
        name = COUNTED_AS.get(name, name)
        table[i] = LABELS.index(name) if name in LABELS else LABELS.index("background")
    return table
