"""The entry point of the `sparky` command."""

import signal
import sys


def main() -> None:
    """The console script. Ctrl-C while modules still load ends it at once, without a traceback."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from cli import streams

    streams.prepare()  # first, because a file opened now could get the number of a closed stream
    from cli.app import app

    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(app(prog_name="sparky"))


if __name__ == "__main__":
    main()
