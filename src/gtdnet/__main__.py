"""python -m gtdnet"""

import sys

from gtdnet.cli import main

if __name__ == "__main__":
    sys.exit(main())
