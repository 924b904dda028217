"""The process of one measurement: creates the subject, runs the probe, and prints the result as JSON."""

import json
import sys

from .peers import SUBJECTS
from .probes import PROBES


def main() -> None:
    """Run the task in the argument."""
    task = json.loads(sys.argv[1])
    options = task["options"]
    subject = SUBJECTS[task["subject"]](task["url"], options.pop("batch", None), options.pop("room", None))
    print(json.dumps(PROBES[task["probe"]](subject, **options)), flush=True)


if __name__ == "__main__":
    main()
