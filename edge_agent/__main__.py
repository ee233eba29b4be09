"""Let `python -m edge_agent` be the command `whetstone-agent`."""

from __future__ import annotations

from edge_agent.main import main

raise SystemExit(main())
