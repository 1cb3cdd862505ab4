"""`make bench`: what the project measures of itself, as ratios within one run."""

import argparse
import sys

from tests.bench import boot, copy, indexes, proxy, size, synth, tracing

argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__).parse_args()
for part in (synth, proxy, tracing, indexes, boot, size, copy):
    print(f"\n== {part.__name__.rpartition('.')[2]}", flush=True)
    sys.argv[1:] = []
    part.main()
