from __future__ import annotations

import json
import platform
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from consistent_gen import runtime
from consistent_gen.errors import InputError, UnknownNameError

SEEDS = st.integers(min_value=0, max_value=2**63 - 1)

# Counts page faults of allocating and freeing 64 MB twenty times, in a process of its own because
# the setting cannot be taken back.
FAULTS = """
import ctypes, json, resource, sys
from consistent_gen.runtime import tune_allocator
tuned = tune_allocator() and tune_allocator() if sys.argv[1] == "tuned" else None
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = (ctypes.c_size_t,)
libc.free.argtypes = (ctypes.c_void_p,)
SIZE = 64 << 20
def turn():
    block = libc.malloc(SIZE)
    ctypes.memset(block, 1, SIZE)
    libc.free(block)
turn()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    turn()
after = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
print(json.dumps([tuned, after - before]))
"""


def faults(mode: str) -> tuple[bool | None, int]:
    done = subprocess.run(
        [sys.executable, "-c", FAULTS, mode], check=True, capture_output=True, text=True
    )
    tuned, count = json.loads(done.stdout)
    return tuned, count


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
def test_tuned_allocator_reuses_memory_instead_of_faulting_it_in_again() -> None:
    _, plain = faults("plain")
    tuned, few = faults("tuned")
    assert tuned is True
    # 64 MB are at least 32 pages even when the kernel hands out huge ones of 2 MB.
    assert plain >= 20 * 32
    assert few < plain / 10


def test_device_by_default_and_by_name() -> None:
    assert runtime.device("cpu") == torch.device("cpu")
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert runtime.device().type == expected


@pytest.mark.parametrize("name", ["gpu", "cuda:99", ""])
def test_device_that_is_not_there(name: str) -> None:
    with pytest.raises(InputError) as caught:
        runtime.device(name)
    assert repr(name) in str(caught.value)


def test_dtype() -> None:
    assert runtime.dtype() is torch.float32
    assert runtime.dtype(on=torch.device("cpu")) is torch.float32
    assert runtime.dtype(on=torch.device("cuda")) is torch.float16
    assert runtime.dtype("bfloat16", torch.device("cpu")) is torch.bfloat16
    with pytest.raises(UnknownNameError, match="float16"):
        runtime.dtype("flaot16")


@given(SEEDS, st.integers(0, 1000), st.integers(0, 20))
def test_frame_seed_fits_and_repeats(seed: int, index: int, version: int) -> None:
    found = runtime.frame_seed(seed, index, version)
    assert 0 <= found < 2**63
    assert found == runtime.frame_seed(seed, index, version)


def test_frame_seeds_differ_in_every_argument() -> None:
    seeds = [runtime.frame_seed(s, i, v) for s in range(20) for i in range(20) for v in range(20)]
    assert len(set(seeds)) == len(seeds)


def test_frame_seed_is_the_same_in_another_process() -> None:
    code = "from consistent_gen.runtime import frame_seed; print(frame_seed(7, 3, 1))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert int(done.stdout) == runtime.frame_seed(7, 3, 1)


@given(SEEDS)
def test_generator_repeats_and_purposes_are_independent(seed: int) -> None:
    def draw(purpose: str) -> torch.Tensor:
        return torch.randn(8, generator=runtime.generator(seed, purpose))

    assert torch.equal(draw("latent"), draw("latent"))
    assert not torch.equal(draw("latent"), draw("dropout"))


def test_generator_leaves_the_global_state_alone() -> None:
    before = torch.get_rng_state()
    torch.randn(8, generator=runtime.generator(1, "latent"))
    assert torch.equal(before, torch.get_rng_state())


def test_versions_state_what_is_installed() -> None:
    found = runtime.versions()
    assert found["python"] == platform.python_version()
    assert found["torch"] == torch.__version__
    assert set(found) <= {"python", *runtime.REPORTED_PACKAGES}
