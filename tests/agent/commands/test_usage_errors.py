"""What a user reads who mistypes a command."""

import contextlib
import io

import pytest

from secateur.agent.cli import main

LONG = f"/{'a' * 50}/{'b' * 50}"
"""A word longer than a line."""


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "no command was given; give prune, inspect,"),
        (["prun", "demo"], "there is no command 'prun', did you mean 'prune'?; give prune,"),
        (["prune", "--epochs", "1.5"], "--epochs is '1.5'; give a whole number;"),
        (["prune", "--drop-blocks", "some"], "--drop-blocks is 'some'; give a whole number or auto;"),
        (["prune", "--target-macs", "half"], "--target-macs is 'half'; give a number such as 0.5 or 50%;"),
        (
            ["prune", "--target-macs"],
            "--target-macs has no value; give a number such as 0.5 or 50%;",
        ),
        (
            ["prune", "--methd", "ppo"],
            "there is no option --methd, did you mean '--method'?; see secateur prune --help",
        ),
        (["prune", "--epoch", "1"], "there is no option --epoch, did you mean '--epochs'?;"),
        (["prune", "--input-shape", "1"], "there is no option --input-shape"),
        (["prune", "demo", "resnet20"], "there is no place for the argument resnet20"),
        (
            ["prune", "--drop-bound", "x"],
            "--drop-bound is 'x'; give a number of percentage points such as 2;",
        ),
        (["prune", "--procedure", "x"], "--procedure is 'x'; give one of network, layerwise;"),
        (["inspect", "--input-shape", "3x9"], "--input-shape is '3x9'; give a list of whole numbers;"),
        (["inspect", "demo", "demo"], "there is no place for the argument demo; see secateur inspect --help"),
        (["prune", "--effort", "huge"], "--effort is 'huge'; give one of quick, normal, thorough;"),
        (["prune", "--drop-bound", "1", "--target-macs", "1"], "target_macs and drop_bound exclude"),
        (["prune", "--effort", "quick", "--effort", "huge"], "--effort was given twice; give it once;"),
        (["prune", "--val-from=test", "--val_from", "train"], "--val-from was given twice; give it once;"),
        (["prune", "--config"], "--config has no value;"),
        (["prune", "--config", "a", "--config=b"], "--config was given twice;"),
        (
            ["frontier", "demo", "--targets", "a", "0.3"],
            "--targets is 'a', '0.3'; give a list of numbers such as 0.5 or 50%;",
        ),
        (["prune", "--epochs", LONG], f"--epochs is '{LONG}'; give a whole number;"),
        (["prune", f"--epochs={LONG}"], f"--epochs is '{LONG}'; give a whole number;"),
        (["inspect", "demo", LONG], f"there is no place for the argument {LONG};"),
        *(
            (
                [*verb, "--task", "mine:Task", *option],
                f"the task mine:Task brings its own data; leave out {flag}",
            )
            for verb in (["prune"], ["compare", "demo"], ["frontier", "demo"], ["evaluate", "demo"])
            for option, flag in (
                (["--data", "digits"], "--data"),
                (["--val_from=auto"], "--val-from"),
                (["--augment", "auto"], "--augment"),
            )
        ),
        (
            ["prune", "--max-sparsity", "f.0=0.5", "--max-sparsity", "f.0=60%"],
            "--max-sparsity is 0.5 and 0.6 for f.0; leave one of them out",
        ),
        (["prune", "--round-to", "8", "--round-to", "4"], "--round-to is 8 and 4 for all layers; leave one"),
        (
            ["prune", "--size", "dim=f.0", "--size", "dim=f.3"],
            "--size gives dim the layers f.0 and f.3; leave",
        ),
        (["prune", "--data", ""], "the name of the data is empty; give a data set such as digits, or a"),
        (
            ["prune", "--method", "fpgm"],
            "there is no method 'fpgm', did you mean 'fpgm-global', 'fpgm-uniform' or",
        ),
        (["export"], "an argument is missing, folder: Folder of a prune run; see secateur export --help"),
    ],
)
def test_a_mistyped_command_is_answered_in_plain_words_on_any_terminal(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert capsys.readouterr().err.startswith(f"secateur: {sentence}")
    for stdout in (io.StringIO(), Terminal()):  # without an encoding, so without line characters; in colour
        with contextlib.redirect_stdout(stdout):
            assert main(words) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"secateur: {sentence}")
        assert error.count("\n") == 1
