import torch
from labelled_faces import SIZE, make_faces
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from hf_faceenh.learning.parsing import LABELS, LabelledFaces, evaluate, make_model


def test_a_perfect_parser_has_iou_1(tmp_path):
    faces = LabelledFaces(*map(str, make_faces(tmp_path, 2)), "train", 2 * SIZE)

    class Perfect(torch.nn.Module):
        config = make_model(SIZE).config
        device = torch.device("cpu")

        def forward(self, pixel_values):
            mean, std = (
                torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
            )
            red, green, _ = (pixel_values[0] * std + mean).unbind()
            logits = torch.zeros(1, len(LABELS), *red.shape)
            logits[0, 0] = 0.8  # a head is brighter: 2 × 150 / 255
            logits[0, 1] = red + green
            logits[0, LABELS.index("l_eye")] = 10 * (green - red - 0.5)
            logits[0, LABELS.index("r_eye")] = 10 * (red - green - 0.5)
            return type("Output", (), {"logits": logits})

    per_class, mean = evaluate(Perfect(), faces)
    assert mean == 1
    assert per_class.isnan().sum() == 6
