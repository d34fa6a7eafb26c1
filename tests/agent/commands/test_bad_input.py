"""What the command line says to those who do not know it: help, and one line where the input is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.command_line import refusal


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["prune", "resnet2O"], "resnet20"),
        (["prune", "--data", "digit"], "digits"),
        (["prune", "--method", "l2-unifrom"], "l2-uniform"),
        (["prune", "--targt-macs", "0.5"], "--target-macs"),
        (["prun"], "prune"),
        (["prune", "--target-macs", "half"], "--target-macs"),
        (["prune", "--target-macs", "1.5"], "at most 1"),
        (["prune", "--target-macs", "0"], "above 0"),
        (["prune", "--target-macs", "0.5", "--drop-bound", "1"], "--drop-bound"),
        (["prune", "--drop-bound", "-1"], "above 0"),
        (["prune", "--target-latency", "1", "--target-macs", "0.5"], "exclude each other"),
        (["prune", "--target-latency", "1", "--drop-bound", "1"], "exclude each other"),
        (["prune", "--target-latency", "0"], "above 0"),
        (["prune", "--latency-batch", "0"], "at least 1"),
        (["prune", "--latency-threads", "-2"], "at least 1"),
        (["prune", "--latency-dtype", "int4"], "--latency-dtype"),
        (["prune", "--weights", "nowhere.pt"], "nowhere.pt"),
        (["prune", "--agent", "nowhere"], "nowhere"),
        (["prune", "--agent", "none", "--evaluations", "0"], "has to learn"),
        (["prune", "--evaluations", "-1"], "allowed is at least 0"),
        (["train", "demo", "--evaluations", "0"], "has to learn"),
        (["train", "demo", "--search-images", "0"], "search_images is 0"),
        (["prune", "--epochs", "-1"], "at least 0"),
        (["prune", "--dense-epochs", "-1"], "dense_epochs is -1; allowed is at least 0"),
        (["train", "demo", "--dense-epochs", "-1"], "dense_epochs is -1; allowed is at least 0"),
        (["prune", "--temperature", "inf"], "temperature is inf; allowed is above 0, a finite number"),
        (["prune", "--image-size", "0"], "at least one pixel"),
        (["prune", "--device", "gpu"], "there is no device 'gpu'"),
        (["prune", "--device", "cuda:99"], "there is no device cuda:99: torch finds"),
        (["prune", "--augment", "flips"], "did you mean 'flip'?"),
        (["prune", "--val-from", "tset"], "did you mean 'test'?"),
        (["prune", "--normalisation", "imagnet"], "did you mean 'imagenet'?"),
        (["prune", "--balance-classes"], "--balance-classes is for --task segmentation only"),
        (["prune", "--ignore-label", "11"], "--ignore-label is for --task segmentation only"),
        (["prune", "--method", "l2-uniform", "--evaluations", "9"], "leave out --evaluations or --method"),
        *(
            ([*verb, "--seed", seed], f"seed is {seed}; allowed is 0 to 4294967295")
            for verb in (["prune"], ["train", "demo"], ["evaluate", "demo"], ["frontier", "m:f"])
            for seed in ("-1", "4294967296")
        ),
        (["train"], "network"),
        (["train", "demo", "--weights", "a.pt", "b.pt"], "for each network"),
        (["evaluate", "resnet2O"], "resnet20"),
        (["inspect", "resnet2O"], "resnet20"),
        (["export", "nowhere"], "report.json"),
        (["report", "nowhere"], "report.json"),
        (["runs", "nowhere"], "nowhere"),
        (["export", "nowhere", "--format", "tflite"], "--format"),
    ],
)
def test_bad_input_gets_one_helpful_line_and_writes_nothing(
    words: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert said in refusal(words, capsys)
    assert not list(tmp_path.iterdir())


def test_an_unreachable_target_names_the_smallest_reachable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    error = refusal(["prune", "resnet20", "--data", "digits", "--target-macs", "0.01"], capsys)
    assert "at least" in error
    assert not list(tmp_path.iterdir())
