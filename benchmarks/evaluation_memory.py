"""Peak memory of an evaluation over its length: `python benchmarks/evaluation_memory.py RUN --data PATH`.

Prints the process' peak resident memory after 33, 133 and all pictures of the test split.
"""

import argparse
import resource
from pathlib import Path

from smalti.evaluation.run import evaluate_checkpoint


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("run", type=Path)
    arguments.add_argument("--data")
    options = arguments.parse_args()

    def progress(done: int, total: int) -> None:
        if done in (33, 133, total):
            print(f"after {done} pictures: {peak_mib():.0f} MiB", flush=True)

    evaluate_checkpoint(options.run, options.data, "test", progress)


if __name__ == "__main__":
    main()
