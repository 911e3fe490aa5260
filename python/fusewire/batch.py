"""The memory that requests are read into."""

from __future__ import annotations

from typing import Any

from ._core import ffi

__all__ = ["BATCH", "RECORD_SIZE", "new_batch"]

#: Requests per batch. Batches grow with the load; a record is some 300 bytes.
BATCH = 32

# The library fills the records that it hands out, so that the others need not be cleared.
_allocate = ffi.new_allocator(should_clear_after_alloc=False)
_BATCH_TYPE = ffi.typeof(f"fusewire_request[{BATCH}]")
RECORD_SIZE = ffi.sizeof("fusewire_request")


def new_batch() -> Any:
    """Memory for a batch of requests. Each batch has its own, so that a Request stays what it is when the next batch
    comes."""
    return _allocate(_BATCH_TYPE)
