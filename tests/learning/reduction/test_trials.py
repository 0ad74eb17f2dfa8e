import math

import pytest
import torch
import torch.nn.functional as F
from reducible import TinyRecognizer, faces, gpen, groups_of, noisy, ours

from hf_faceenh.learning.reduction import (
    Trials,
    images_after,
)
from hf_faceenh.models.channels import remove_channels
from hf_faceenh.models.enhancer import FaceEnhancer


@torch.no_grad()
def test_the_image_at_a_layers_depth():
    model = ours()
    lq, names = faces(model)["lq"], groups_of(model)
    image, final = images_after(model, lq, names["generating_network.stages.1.0"])
    assert torch.equal(final, model(lq).sample)
    torch.testing.assert_close(image, F.avg_pool2d(final, 2))
    for name in ("convolutional_network.stages.1.0", "mapping_network.layers.0"):
        assert torch.equal(images_after(model, lq, names[name])[0], final)

    model = gpen()
    image, final = images_after(model, lq, groups_of(model)["generating_network.stages.1.convolutions.0"])
    assert torch.equal(final, model(lq).sample) and image.shape[-2:] == (8, 8)
    last = images_after(model, lq, groups_of(model)["generating_network.stages.2.convolutions.0"])[0]
    assert torch.equal(last, final)
    features = model.convolutional_network(lq)
    attribute = model.mapping_network(features[-1].flatten(1))
    hidden, by_hand = model.generating_network.constant.repeat(len(lq), 1, 1, 1), None
    for stage, noise in zip(model.generating_network.stages[:2], reversed(features), strict=False):
        hidden, by_hand = stage(hidden, by_hand, noise, attribute)
    torch.testing.assert_close(image, by_hand)


def test_quality_is_the_mean_psnr_over_the_range_of_two():
    model, batch = ours(), faces(ours())
    batch["hq"] = batch["hq"].clamp(-0.8, 0.8)
    with torch.no_grad():
        error = (model(batch["lq"]).sample.clamp(-1, 1) - batch["hq"]).square().mean(dim=(1, 2, 3))
    batch["hq"][0] = model(batch["lq"]).sample[0].detach() + 0.2  # 20 dB where nothing is clipped
    assert model(batch["lq"]).sample[0].abs().max() < 1
    expected = [20.0] + [10 * math.log10(4 / max(e, 1e-10)) for e in error[1:].tolist()]
    for parts in ([batch], [{k: v[i : i + 2] for k, v in batch.items()} for i in (0, 2)]):
        quality = Trials(model, {}, parts, None, lambda values: values).assess(model)
        assert quality.psnr == pytest.approx(sum(expected) / 4, abs=1e-3) and quality.identity is None


def test_a_trial_is_looked_at_after_its_layer():
    model = gpen()
    batch, group = noisy(faces(model)), groups_of(model)["generating_network.stages.1.convolutions.0"]
    scores = {group.name: torch.tensor([3.0, 1, 7, 2, 5, 6, 4, 0])}
    trials = Trials(model, scores, [batch], None, lambda values: values)
    smaller = remove_channels(model, {group.name: torch.tensor([0, 2, 4, 5, 6])})
    hq = F.avg_pool2d(batch["hq"], 2)
    for network, quality in ((model, trials.before(group)), (smaller, trials.after(group, 3 / 8))):
        with torch.no_grad():
            image = images_after(network, batch["lq"], group)[0].clamp(-1, 1)
        expected = (10 * (4 / (image - hq).square().mean(dim=(1, 2, 3))).log10()).mean().item()
        assert quality.psnr == pytest.approx(expected, abs=1e-3)


def test_identities_are_compared_at_a_layers_depth_where_faces_can_be_told_apart(monkeypatch):
    seen = []

    def identity_distance(recognizer, a, b):
        seen.append((a.shape[-1], b.shape[-1]))
        return torch.tensor([0.25, 0.75])

    monkeypatch.setattr("hf_faceenh.learning.reduction.trials.identity_distance", identity_distance)
    torch.manual_seed(0)
    channels = {"encoder_channels": [[4]] + [[4, 4]] * 4, "decoder_channels": [[4, 4]] * 5}
    model = FaceEnhancer(sample_size=64, mapping_channels=[4, 4], constant_channels=4, **channels)
    trials = Trials(model, {}, [faces(model, 2)], TinyRecognizer(), lambda values: values)
    names = ["generating_network.stages.2.0", "generating_network.stages.3.0", "convolutional_network.stages.2.0"]
    assert all(trials.before(groups_of(model)[name]).identity == 0.5 for name in names)
    assert seen == [(64, 64), (32, 32), (64, 64)]
