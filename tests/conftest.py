"""For all tests."""

import signal


def pytest_configure() -> None:
    """Have Ctrl-C mean something to the programs that the tests start: a shell starts what runs in the
    background with it ignored, and that is inherited."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
