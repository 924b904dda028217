"""Hides what httpx and httpcore import only where it is installed: `HIDDEN_PACKAGES` names it.

A test's program then imports what a service does that has not all packages of the tests installed.
"""

import os
import sys

for name in os.environ.get("HIDDEN_PACKAGES", "").split():
    sys.modules[name] = None  # type: ignore[assignment] # an import of it raises ModuleNotFoundError
