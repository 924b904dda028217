"""Hides what httpx and httpcore import only where it is installed.

A program with this folder in its PYTHONPATH runs with what umami's core needs, as most services do.
"""

import sys

for name in ("click", "h2", "rich", "socksio", "trio"):
    sys.modules[name] = None  # type: ignore[assignment] # an import of it raises ModuleNotFoundError
