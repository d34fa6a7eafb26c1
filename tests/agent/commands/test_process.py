"""What the process asks of the machine."""

import threading

import pytest

from secateur.agent.commands.process import one_line_of_threads


def test_a_thread_that_cannot_write_says_so_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def write() -> None:
        raise OSError("no space")

    with one_line_of_threads():
        thread = threading.Thread(target=write)
        thread.start()
        thread.join()
    assert capsys.readouterr().err == "secateur: warning: no space\n"
