"""A detector whose backbone is pruned."""

import math

import torch

from support.pages import snippet
from support.published import detector


def test_a_detector_with_a_pruned_backbone_detects_and_trains_as_the_page_says() -> None:
    torch.manual_seed(0)
    model = detector()
    before = sum(p.numel() for p in model.backbone.parameters())
    exec(snippet("detector.backbone"), {"detector": model})
    assert sum(p.numel() for p in model.backbone.parameters()) < 0.6 * before

    images = list(torch.rand(2, 3, 64, 64))
    with torch.no_grad():
        found = model.eval()(images)
    assert [set(boxes) for boxes in found] == [{"boxes", "labels", "scores"}] * 2
    assert all(boxes["boxes"].shape == (len(boxes["scores"]), 4) for boxes in found)

    truth = {"boxes": torch.tensor([[8.0, 8.0, 40.0, 48.0]]), "labels": torch.tensor([1])}
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-3)
    first = model.backbone.body["0"][0].weight
    weight = first.detach().clone()
    loss = torch.stack(list(model.train()(images, [truth, truth]).values())).sum()
    loss.backward()
    optimiser.step()
    assert math.isfinite(loss.item())
    assert not torch.equal(first, weight)
