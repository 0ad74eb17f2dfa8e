import math

import pytest
import torch
from labelled_faces import SIZE, make_faces
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from hf_faceenh.learning.parsing import LABELS, LabelledFaces, confusion_matrix, evaluate, make_model, mean_iou


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
            logits[0, LABELS.index("hair")] = 0.8  # a face is brighter: 2 × 150 / 255
            logits[0, 1] = red + green
            logits[0, LABELS.index("l_eye")] = 10 * (green - red - 0.5)
            logits[0, LABELS.index("r_eye")] = 10 * (red - green - 0.5)
            return type("Output", (), {"logits": logits})

    per_class, mean = evaluate(Perfect(), faces)
    assert mean == 1
    assert per_class.isnan().sum() == 7


def test_the_iou_of_a_class_is_its_overlap_over_what_either_map_has_of_it():
    target, prediction = torch.tensor([[0, 0, 1, 1]]), torch.tensor([[0, 1, 1, 1]])
    confusion = confusion_matrix(prediction, target, 3)
    assert confusion.tolist() == [[1, 1, 0], [0, 2, 0], [0, 0, 0]]
    per_class, mean = mean_iou(confusion)
    assert per_class[:2].tolist() == pytest.approx([1 / 2, 2 / 3]) and math.isnan(per_class[2])
    assert mean == pytest.approx(7 / 12)


def test_label_maps_of_other_shapes_or_ids_are_refused():
    with pytest.raises(ValueError, match="two label maps of one shape"):
        confusion_matrix(torch.zeros(2, 2), torch.zeros(4), 3)
    with pytest.raises(ValueError, match="the target holds ids from 0 to 5"):
        confusion_matrix(torch.tensor([0, 1]), torch.tensor([0, 5]), 3)
