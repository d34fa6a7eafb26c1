"""Random numbers of examples, and passes over a split."""

import torch

from secateur.envs.tasks import Accuracy, TensorTask
from secateur.envs.tasks.draws import derived_seed, uniform
from secateur.envs.tasks.passes import Pass, stream


def test_an_examples_numbers_do_not_depend_on_the_batch_it_is_in():
    whole = uniform(3, 5, torch.arange(100), 4)
    order = torch.randperm(100)
    assert torch.equal(uniform(3, 5, order, 4), whole[order])


def test_numbers_differ_by_seed_epoch_index_and_column():
    drawn = torch.stack([uniform(seed, epoch, torch.arange(50), 3) for seed in (0, 1) for epoch in (0, 1)])
    assert len(drawn.unique()) == drawn.numel()
    assert len({derived_seed(a, b, c) for a in range(10) for b in range(10) for c in range(-2, 10)}) == 1200


def test_numbers_are_uniform_and_uncorrelated():
    drawn = uniform(0, 0, torch.arange(100_000), 2)
    assert 0 <= drawn.min() < 1e-4
    assert 1 - 1e-4 < drawn.max() < 1
    torch.testing.assert_close(drawn.mean(0), torch.full((2,), 0.5, dtype=torch.float64), atol=5e-3, rtol=0)
    torch.testing.assert_close(drawn.var(0), torch.full((2,), 1 / 12, dtype=torch.float64), atol=2e-3, rtol=0)
    neighbours = torch.stack([drawn[:-1, 0], drawn[1:, 0], drawn[1:, 1]])
    assert (torch.corrcoef(neighbours) - torch.eye(3)).abs().max() < 0.02


def test_the_ranks_share_every_batch():
    batches = torch.randperm(23).split(10)
    passes = [Pass("train", batches, rank=rank, ranks=4) for rank in range(4)]
    for number, batch in enumerate(batches):
        own = [passed.shares[number] for passed in passes if passed.weights[number]]
        assert torch.equal(torch.cat(own), batch)
        assert sum(passed.weights[number] for passed in passes) == 1


def test_a_rank_without_an_example_of_a_small_batch_gets_one_that_does_not_count():
    passed = Pass("train", torch.arange(23).split(10), first=2, rank=3, ranks=4)
    assert [share.tolist() for share in passed.shares] == [[20]]
    assert passed.weights == [0]


def test_a_task_without_a_loader_is_read_batch_by_batch():
    tensors = torch.rand(12, 3), torch.arange(12) % 2
    task = TensorTask(
        train=tensors, val=tensors, test=tensors, loss=torch.nn.functional.cross_entropy, metric=Accuracy()
    )
    batches = torch.arange(10).split(4)
    read = list(stream(task, Pass("train", batches, first=1)))
    expected = [task.batch("train", batch) for batch in batches[1:]]
    for (inputs, targets), (given_inputs, given_targets) in zip(read, expected, strict=True):
        assert torch.equal(inputs, given_inputs)
        assert torch.equal(targets, given_targets)


def test_a_task_with_a_loader_reads_a_pass_itself():
    class Streamed:
        def loader(self, passed):
            return ((share, share) for share in passed.shares)

    (inputs, _), *rest = stream(Streamed(), Pass("val", (torch.arange(3), torch.arange(3, 5))))
    assert inputs.tolist() == [0, 1, 2]
    assert len(rest) == 1


class Doubled(TensorTask):
    def batch(self, *given, **named):
        inputs, targets = super().batch(*given, **named)
        return 2 * inputs, targets


class Wrapped:
    def __init__(self, task):
        self._task = task

    def __getattr__(self, name):
        return getattr(self._task, name)

    def batch(self, *given, **named):
        inputs, targets = self._task.batch(*given, **named)
        return 2 * inputs, targets


def test_a_batch_that_is_overridden_alone_is_what_a_pass_reads():
    tensors = torch.rand(12, 3), torch.arange(12) % 2
    parts = {name: tensors for name in ("train", "val", "test")}
    settings = {"loss": torch.nn.functional.cross_entropy, "metric": Accuracy()}
    for task in (Doubled(**parts, **settings), Wrapped(TensorTask(**parts, **settings))):
        ((inputs, _),) = stream(task, Pass("val", [torch.arange(12)]))
        assert torch.equal(inputs, 2 * tensors[0])
