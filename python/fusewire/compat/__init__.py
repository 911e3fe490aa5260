"""Other packages' interfaces, for programs that were written for them: they run unchanged, and can be ported later.

    python3 -m fusewire.compat.fusepy PROGRAM ARGUMENTS...      what imports fuse, fusepy or mfusepy
    python3 -m fusewire.compat.pyfuse3 PROGRAM ARGUMENTS...     what imports pyfuse3

Or change the import: `import fusewire.compat.fusepy as fuse`, `from fusewire.compat import pyfuse3`."""
