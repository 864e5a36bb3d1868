"""The Prefect adapter: flows that call recovery.operations.

Telemetry of Prefect's is off unless the environment asks for it; this must stand before Prefect is imported.
"""

import os

os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
