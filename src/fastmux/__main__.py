"""``python -m fastmux``: see fastmux/cli."""

import sys

from fastmux.cli.command_line import main

if __name__ == "__main__":
    main(sys.argv[1:])
