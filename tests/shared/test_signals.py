import os
import signal
import sys
import time

import pytest

from shared.run import signals
from shared.run.signals import held_back, resume_command


@pytest.fixture
def _ctrl_c():
    """A background job is started with Ctrl-C ignored."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)


@pytest.mark.usefixtures("_ctrl_c")
def test_the_first_signal_is_held_back_and_a_later_one_acts(monkeypatch):
    numbers, terminated = [], signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), held_back(numbers.append):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)  # the same, by another way
        assert numbers == [signal.SIGINT]
        monkeypatch.setattr(signals, "SAME_SECONDS", -1.0)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)  # a signal to oneself may come a moment later
    assert numbers == [signal.SIGINT]
    assert signal.getsignal(signal.SIGTERM) == terminated


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["a/train.py", "--output", "my run"], "python a/train.py --resume --output 'my run'"),
        (["street-adapt train", "--resume", "SEED", "1"], "street-adapt train --resume SEED 1"),
    ],
)
def test_the_command_that_goes_on(words, command, monkeypatch):
    monkeypatch.setattr(sys, "argv", words)
    assert resume_command() == command
