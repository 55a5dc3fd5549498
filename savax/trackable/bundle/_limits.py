"""How much a bundle may ask for; honest bundles stay far below each limit."""

from __future__ import annotations

MAX_INDEX_BYTES = 1 << 30  # an entry takes about 60 bytes: some 15 million of them
MAX_KEY_BYTES = 1 << 16
MAX_NUM_SHARDS = 100_000  # file names hold five digits
MAX_RANK = 64  # numpy's own limit
MAX_DIM = (1 << 63) - 1
MAX_ELEMENTS = 1 << 58  # numpy counts bytes in 63 bits; an empty dim counts as 1 here

# Prefix compression lets a small file spell out huge keys. 100,000 honest keys take 1.03 times
# the size of their file.
KEY_BYTES_FLOOR = 1 << 26
KEY_BYTES_PER_INDEX_BYTE = 16

# No snappy element makes more than 64 bytes of 3; the floor is for blocks of a few bytes.
MAX_SNAPPY_BYTES = 1 << 26
MAX_SNAPPY_RATIO = 24

# Many entries may name the same bytes. Reading all of them may cost this many times the files.
MAX_READ_PER_DATA_BYTE = 4

# Pairs of slices that may be compared before a partition is called absurd.
MAX_SLICE_COMPARISONS = 50_000_000
