"""Tests. Limits oneDNN to instructions without bf16, so that trainings have the same precision on all processors."""

import os

os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE")  # before torch is imported
