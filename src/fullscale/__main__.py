"""The command as `python -m fullscale`."""

from fullscale.cli import main

if __name__ == "__main__":  # worker processes import this file too
    main()
