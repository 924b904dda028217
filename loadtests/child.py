"""The fresh process of one measurement: makes its subject, runs its probe, prints what it found as JSON."""

import json
import sys

from .peers import SUBJECTS
from .probes import PROBES


def main() -> None:
    """Do as the argument says."""
    task = json.loads(sys.argv[1])
    options = task["options"]
    subject = SUBJECTS[task["subject"]](task["url"], options.pop("batch", None), options.pop("room", None))
    print(json.dumps(PROBES[task["probe"]](subject, **options)), flush=True)


if __name__ == "__main__":
    main()
