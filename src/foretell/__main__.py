"""`python -m foretell` is the command `foretell`."""

from foretell.cli import main

raise SystemExit(main())
