import math

import pytest
import torch
from reducible import TinyRecognizer, faces, gfpgan, gpen, groups_of, noisy, ours

from hf_faceenh.learning.reduction import Trials
from hf_faceenh.models.channels import remove_channels


def trials_of(model, batches, scores=None, recognizer=None):
    return Trials(model, scores or {}, batches, recognizer, lambda values: values)


def test_quality_is_the_mean_psnr_over_the_range_of_two():
    model, batch = ours(), faces(ours())
    batch["hq"] = batch["hq"].clamp(-0.8, 0.8)
    with torch.no_grad():
        error = (model(batch["lq"]).sample.clamp(-1, 1) - batch["hq"]).square().mean(dim=(1, 2, 3))
    batch["hq"][0] = model(batch["lq"]).sample[0].detach() + 0.2  # 20 dB where nothing is clipped
    assert model(batch["lq"]).sample[0].abs().max() < 1
    expected = [20.0] + [10 * math.log10(4 / max(e, 1e-10)) for e in error[1:].tolist()]
    for parts in ([batch], [{k: v[i : i + 2] for k, v in batch.items()} for i in (0, 2)]):
        outcome = trials_of(model, parts).outcome({})
        assert outcome.quality.psnr == pytest.approx(sum(expected) / 4, abs=1e-3) and outcome.quality.identity is None
        assert set(outcome.changes.values()) == {0.0}


@pytest.mark.parametrize("make", [ours, gpen, gfpgan])
def test_the_final_image_is_that_of_the_smaller_network(make):
    model = make()
    batch, groups = noisy(faces(model)), groups_of(model)
    scores = {name: torch.rand(group.width) for name, group in groups.items()}
    trials = trials_of(model, [batch], scores, TinyRecognizer())
    ratios = dict.fromkeys(list(groups)[::3], 0.5)
    smaller = remove_channels(model, trials.keep(ratios))
    expected = trials_of(smaller, [batch], recognizer=TinyRecognizer()).outcome({}).quality
    quality = trials.outcome(ratios).quality
    assert quality.psnr == pytest.approx(expected.psnr, abs=1e-3)
    assert quality.identity == pytest.approx(expected.identity, abs=1e-5) and quality.identity > 0
    assert trials.outcome({}).quality.psnr != pytest.approx(quality.psnr, abs=1e-2)  # and nothing stays masked


@torch.no_grad()
def test_a_change_is_the_share_of_the_energy_that_the_readers_maps_lost():
    model = ours()
    batch, layer = faces(model), "generating_network.stages.1.0"
    group = groups_of(model)[layer]
    reader = model.generating_network.stages[1][1].conv
    assert group.readers == ["generating_network.stages.1.1.conv"]
    seen = []
    handle = reader.register_forward_hook(lambda _, inputs, output: seen.append((inputs[0], output.clone())))
    model(batch["lq"])
    handle.remove()
    inputs, before = seen[0]
    scores = torch.arange(16.0)
    outcome = trials_of(model, [batch], {layer: scores}).outcome({layer: 0.25})
    inputs = inputs.clone()
    inputs[:, :4] = 0
    now = reader(inputs)
    expected = ((now - before).square().sum(dim=(1, 2, 3)) / before.square().sum(dim=(1, 2, 3))).mean().item()
    assert outcome.changes[group.readers[0]] == pytest.approx(expected, rel=1e-4) and expected > 0.01
    assert outcome.changes["generating_network.stages.0.0.conv"] == 0  # before it


def test_a_noise_feature_has_two_readers():
    model = ours()
    readers = groups_of(model)["convolutional_network.stages.0.1"].readers
    assert readers == ["convolutional_network.stages.1.0", "generating_network.stages.1.0.conv"]
    assert all(model.get_submodule(name).weight.shape[1] >= 16 for name in readers)
    for model in (gpen(), gfpgan()):
        for group in model.channel_groups():
            assert all(isinstance(model.get_submodule(name), torch.nn.Module) for name in group.readers)
