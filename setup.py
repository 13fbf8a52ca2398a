"""The C++ part of the tokenizer; pyproject.toml says all else.

Where it cannot be compiled, the installation goes on without it and plain Python does the same, more slowly.
"""

import sysconfig
from pathlib import Path

from setuptools import Extension, setup

NATIVE = Path("src/groundup/tokenizer/native")
# One build serves every Python from 3.11, but those without the interpreter's lock, which have no limited API.
LIMITED = not sysconfig.get_config_var("Py_GIL_DISABLED")

setup(
    ext_modules=[
        Extension(
            "groundup.tokenizer._native",
            sources=[str(NATIVE / name) for name in ("kernels.cpp", "module.cpp")],
            depends=[str(path) for pattern in ("*.hpp", "*.inc") for path in sorted(NATIVE.glob(pattern))],
            language="c++",
            extra_compile_args=["-O3", "-std=c++17"],
            define_macros=[("Py_LIMITED_API", "0x030B0000")] if LIMITED else [],
            py_limited_api=LIMITED,
            optional=True,
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if LIMITED else {},
)
