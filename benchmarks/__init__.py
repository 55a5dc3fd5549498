"""What savax costs, against the best peer on the same machine: ``python -m benchmarks``."""
