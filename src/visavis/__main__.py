"""``python -m visavis`` is the command ``visavis``."""

import sys

from visavis.app.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    sys.exit(main())
