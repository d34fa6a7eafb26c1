"""What a user reads who mistypes a command."""

import contextlib
import io

import pytest

from secateur.agent.cli import main


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "no command was given; give inspect,"),
        (["prun", "demo"], "there is no command prun; give inspect,"),
        (["prune", "--epochs", "1.5"], "--epochs is '1.5'; give a whole number;"),
        (["prune", "--target-macs", "half"], "--target-macs is 'half'; give a number such as 0.5 or 50%;"),
        (["prune", "--target-macs"], "--target-macs has no value;"),
        (["prune", "--methd", "ppo"], "there is no option --methd; did you mean --method?;"),
        (["prune", "--epoch", "1"], "there is no option --epoch; did you mean --epochs?;"),
        (["prune", "--input-shape", "1"], "this command has no option --input-shape;"),
        (["prune", "demo", "resnet20"], "the argument resnet20 is one too many;"),
        (
            ["prune", "--drop-bound", "x"],
            "--drop-bound is 'x'; give a number of percentage points such as 2;",
        ),
        (["prune", "--procedure", "x"], "--procedure is 'x'; give 'network', 'layerwise';"),
        (["inspect", "--input-shape", "1"], "--input-shape is '1'; give three whole numbers;"),
        (["export"], "an argument of export is missing: Folder of a prune run;"),
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
