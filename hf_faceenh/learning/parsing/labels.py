"""The regions of a head: those of CelebAMask-HQ, and the eleven that the parser knows."""

import numpy as np

# "hair" is the rest of the head: hats and ears too. It comes last, so that the others keep their ids.
LABELS = ("background", "skin", "nose", "l_eye", "r_eye", "l_brow", "r_brow", "mouth", "u_lip", "l_lip", "hair")
CELEBAMASK_HQ = (
    *("background", "skin", "nose", "eye_g", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear", "r_ear"),
    *("mouth", "u_lip", "l_lip", "hair", "hat", "ear_r", "neck_l", "neck", "cloth"),
)
HEAD_ID = CELEBAMASK_HQ.index("hair")
COUNTED_AS = {"eye_g": "skin", "hat": "hair", "l_ear": "hair", "r_ear": "hair", "ear_r": "hair"}  # ear_r: earrings
MIRRORED = {"l_eye": "r_eye", "r_eye": "l_eye", "l_brow": "r_brow", "r_brow": "l_brow"}  # l_lip is the lower one


def to_label_ids(head_id: int = HEAD_ID) -> np.ndarray:
    """Id in CelebAMask-HQ → id in `LABELS`; 255 for ids that CelebAMask-HQ does not have.

    Args:
        head_id: one more id that means the rest of the head, whatever CelebAMask-HQ has it for.
    """
    table = np.full(256, 255, np.uint8)
    for i, name in enumerate(CELEBAMASK_HQ):
        name = COUNTED_AS.get(name, name)
        table[i] = LABELS.index(name) if name in LABELS else LABELS.index("background")
    table[head_id] = LABELS.index("hair")
    return table
