import copy

import pytest
import torch
from reducible import faces, gfpgan, gpen, groups_of, l2_loss, noisy, ours, silence

from hf_faceenh.learning.reduction import (
    importance,
)

LAYERS = [
    "convolutional_network.stem",
    "convolutional_network.stages.0.0",
    "convolutional_network.stages.1.1",
    "mapping_network.layers.0",
    "generating_network.constant",
    "generating_network.stages.0.0",
    "generating_network.stages.2.1",
]


@pytest.mark.parametrize("method", ["taylor", "l2"])
@pytest.mark.parametrize("makers", [True, False])
@pytest.mark.parametrize("layer", LAYERS)
def test_useless_channels_are_ranked_last(layer, makers, method):
    model = ours()
    silence(model, layer, [3, 11], makers)
    scores = importance(model, [noisy(faces(model))], l2_loss, method)
    assert set(scores) == set(groups_of(model))
    assert scores[layer].argsort()[:2].sort().values.tolist() == [3, 11]
    assert (scores[layer] > 0).sum() == 14
    assert all((values > 0).all() for name, values in scores.items() if name == LAYERS[0] != layer)


GPEN = gpen, ["convolutional_network.layers.1", "generating_network.stages.1.convolutions.1"]
GFPGAN = (
    gfpgan,
    ["convolutional_network.down.0", "convolutional_network.down.1", "generating_network.stages.1.transform"],
)


@pytest.mark.parametrize("method", ["taylor", "l2"])
@pytest.mark.parametrize(("make", "names"), [GPEN, GFPGAN])
def test_useless_channels_of_published_networks_are_ranked_last(make, names, method):
    model = make()
    for name in names:
        silence(model, name, [2, 5], makers=False)
    scores = importance(model, [noisy(faces(model))], l2_loss, method)
    for name in names:
        assert scores[name].argsort()[:2].sort().values.tolist() == [2, 5]


@pytest.mark.parametrize("make", [ours, gpen, gfpgan])
def test_taylor_is_the_change_of_the_loss_when_a_channel_fades(make):
    """Against a difference quotient: the channel's inputs to its readers, scaled by 1 ± 0.001."""
    model = make().double()
    batch = {name: values.double() for name, values in noisy(faces(make(), 1)).items()}
    scores = importance(model, [batch], l2_loss)
    for name, group in groups_of(model).items():
        values = []
        for scale in (0.999, 1.001):
            faded = copy.deepcopy(model)
            with torch.no_grad():
                for where in (where for where in group.consumers if where.dim == 1):
                    inputs = dict(faded.named_parameters())[where.parameter].movedim(where.dim, 0)
                    inputs[where.start + where.repeat : where.start + 2 * where.repeat].mul_(scale)  # channel 1
                values.append(l2_loss(faded(batch["lq"]).sample, batch).item())
        slope = abs(values[1] - values[0]) / 0.002
        assert scores[name][1].item() == pytest.approx(slope, rel=5e-3, abs=1e-9), name


def test_taylor_does_not_let_the_faces_cancel_each_other():
    model = ours()
    batches = [noisy(faces(model, 1, seed)) for seed in (1, 2)]
    both = importance(model, [{k: torch.cat([b[k] for b in batches]) for k in batches[0]}], l2_loss)
    alone = [importance(model, [batch], l2_loss) for batch in batches]
    for name, values in both.items():
        torch.testing.assert_close(values, (alone[0][name] + alone[1][name]) / 2)
    assert all(parameter.grad is None for parameter in model.parameters())
