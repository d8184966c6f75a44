"""Makes an RDS PostgreSQL server match the application databases that a Terraform snapshot declares."""

import gc

# Nearly all that a run allocates lives to its end, libraries included; by default the collector walks it again and
# again. A tenth of the processor time of a cold start goes there (make bench).
gc.set_threshold(50_000)
