"""Other packages' interfaces, for programs that were written for them: they run unchanged, and can be ported later.

    python3 -m fusewire.compat.fusepy PROGRAM ARGUMENTS...      what imports fuse, fusepy or mfusepy

Or change the import: `import fusewire.compat.fusepy as fuse`."""
