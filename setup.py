"""The C++ parts of the tokenizer and of the word vectors; pyproject.toml says all else.

Where they cannot be compiled, the installation goes on without them and plain Python does the same, more slowly.
"""

import sysconfig
from pathlib import Path

from setuptools import Extension, setup

SOURCES = Path("src/groundup")
# One build serves every Python from 3.11, but those without the interpreter's lock, which have no limited API.
LIMITED = not sysconfig.get_config_var("Py_GIL_DISABLED")


def native(room: str, sources: list[str], arguments: list[str]) -> Extension:
    """The module `_native` of a room, from the C++ in its folder `native`."""
    folder = SOURCES / room / "native"
    return Extension(
        f"groundup.{room}._native",
        sources=[str(folder / name) for name in sources],
        depends=[str(path) for pattern in ("*.hpp", "*.inc") for path in sorted(folder.glob(pattern))],
        language="c++",
        # Hidden: calls within the module need not go by a table that another library could change.
        extra_compile_args=["-O3", "-std=c++17", "-fvisibility=hidden", *arguments],
        define_macros=[("Py_LIMITED_API", "0x030B0000")] if LIMITED else [],
        py_limited_api=LIMITED,
        optional=True,
    )


setup(
    ext_modules=[
        native("tokenizer", ["kernels.cpp", "module.cpp"], []),
        native("words", ["module.cpp"], ["-fno-math-errno"]),  # so that square roots are taken sixteen at a time
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if LIMITED else {},
)
