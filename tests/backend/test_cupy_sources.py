"""Every CUDA source compiles for the GPUs we mean, by NVRTC, which needs neither a GPU nor a driver.

``pip install nvidia-cuda-nvrtc nvidia-cuda-runtime`` brings the compiler and the headers.
"""

import ctypes
import importlib.util
from pathlib import Path

import pytest

from distgrad.backend._cupy._sources import SOURCES

ARCHITECTURES = ("sm_80", "sm_90")


def _wheels() -> list[Path]:
    """The folders of NVIDIA's wheels, such as ``.../nvidia/cu13``."""
    found = importlib.util.find_spec("nvidia")
    roots = [] if found is None else [Path(p) for p in found.submodule_search_locations or ()]
    return [folder for root in roots for folder in sorted(root.iterdir()) if folder.is_dir()]


def _library() -> ctypes.CDLL | None:
    for folder in _wheels():
        for path in sorted(folder.glob("lib*/libnvrtc.so.*")):
            return ctypes.CDLL(str(path))
    return None


def compile_source(nvrtc: ctypes.CDLL, text: str, architecture: str) -> tuple[int, str]:
    """Compiles to machine code; its size in bytes (0 for an error) and the compiler's messages."""
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    headers = [f"-I{folder / 'include'}" for folder in _wheels() if (folder / "include").is_dir()]
    options = [f"-arch={architecture}", "-std=c++17", *headers]
    assert nvrtc.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"kernel.cu", 0, None, None) == 0
    try:
        status = nvrtc.nvrtcCompileProgram(
            program, len(options), (ctypes.c_char_p * len(options))(*[o.encode() for o in options])
        )
        nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
        log = ctypes.create_string_buffer(size.value)
        nvrtc.nvrtcGetProgramLog(program, log)
        if status != 0:
            return 0, log.value.decode()
        assert nvrtc.nvrtcGetCUBINSize(program, ctypes.byref(size)) == 0
        return size.value, log.value.decode()
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


@pytest.fixture(scope="module")
def nvrtc() -> ctypes.CDLL:
    library = _library()
    if library is None:
        pytest.skip("no NVRTC: pip install nvidia-cuda-nvrtc nvidia-cuda-runtime")
    return library


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("name", SOURCES)
def test_source_compiles(nvrtc: ctypes.CDLL, name: str, architecture: str) -> None:
    size, log = compile_source(nvrtc, SOURCES[name], architecture)
    assert size > 0, log
    assert "warning" not in log, log


def test_an_error_in_a_source_is_noticed(nvrtc: ctypes.CDLL) -> None:
    text = next(iter(SOURCES.values())).replace("M lr,", "Missing lr,")
    size, log = compile_source(nvrtc, text, "sm_90")
    assert size == 0
    assert "Missing" in log
