"""`python -m kaelum_graph` is `kaelum`."""

from __future__ import annotations

import sys

from kaelum_graph.cli import main

sys.exit(main())
