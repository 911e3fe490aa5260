"""The extension module that cffi makes from fusewire_abi.h: `lib` has every function and enumerator of that header."""

from typing import Any

ffi: Any
lib: Any
