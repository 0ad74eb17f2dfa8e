"""Still the same person: how far an enhanced face goes from the face that came in."""

import torch

from hf_faceenh.models import FaceRecognizer
from hf_faceenh.recognition import embed, embedding_distance


def identity_distances(
    recognizer: FaceRecognizer, crops: torch.Tensor, faces: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """How different the recognizer finds the faces of the result from those that came in: `[B]`.

    Args:
        crops: as the enhancer saw them, `[B, 3, S, S]` in [0, 1].
        faces: the same, enhanced.
        weights: how much of each pixel is taken from the enhanced face, `[B, 1, S, S]`, or one number for all.
    """
    blends = crops + weights * (faces - crops)
    return embedding_distance(recognizer, embed(recognizer, 2 * crops - 1), embed(recognizer, 2 * blends - 1))
