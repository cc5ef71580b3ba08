"""What the fuzzing benchmarks share: damaged bytes, rounds from seeds, and a build with sanitizers to run them in."""

from __future__ import annotations

import argparse
import faulthandler
import functools
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol


class Fuzzer(Protocol):
    """Each round does one thing, chosen by its seed; `done` counts them."""

    done: Counter[str]

    def round(self, seed: int) -> None: ...


def damaged(data: bytes, generator: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(generator.randint(1, 6)):
        at = generator.randrange(len(changed) + 1)
        kind = generator.randrange(5)
        if kind == 0:
            changed[at : at + generator.randint(0, 40)] = b""
        elif kind == 1:
            changed[at:at] = generator.randbytes(generator.randint(1, 8))
        elif kind == 2 and changed:
            changed[at % len(changed)] ^= 1 << generator.randrange(8)
        elif kind == 3:
            changed[at : at + 4] = generator.choice((b"\xff\xff\xff\xff", b"\x00\x00\x00\x00", b"\xff\xff\xff\x7f"))
        else:
            changed[at:at] = changed[at : at + generator.randint(1, 30)]
    return bytes(changed)


def run(make: Callable[[Path], Fuzzer], minutes: float, first: int) -> None:
    faulthandler.enable()
    with tempfile.TemporaryDirectory() as folder:
        fuzzer = make(Path(folder))
        ends = time.monotonic() + 60 * minutes
        seed = first
        said = time.monotonic()
        while time.monotonic() < ends:
            Path(folder, "seed").write_text(str(seed))
            try:
                fuzzer.round(seed)
            except BaseException:
                print(f"round {seed} failed", file=sys.stderr)
                raise
            seed += 1
            if time.monotonic() > said + 60:
                print(f"{seed - first:,} rounds", flush=True)
                said = time.monotonic()
        print(f"{seed - first:,} rounds without a finding: {dict(fuzzer.done)}", flush=True)


def _build(folder: Path) -> Path:
    root = Path(__file__).parents[1]
    target = folder / "package"
    command = [
        *(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(root)),
        "--config-settings=cmake.define.SEEDBED_SANITIZE=ON",
        f"--config-settings=build-dir={folder / 'build'}",
        "--config-settings=install.strip=false",
    ]
    subprocess.run(command, check=True, env=os.environ | {"PIP_CONSTRAINT": str(root / "constraints.txt")})
    return target


def main(module: str, what: str, make: Callable[..., Fuzzer], kinds: Sequence[str] = (), native: bool = True) -> None:
    """The command line of a fuzzing benchmark: builds, and runs `module` in that build.

    Args:
        make: a fuzzer in a folder; where there are `kinds`, also of the `only` kinds that were asked for.
        native: what is fuzzed is native code of this package; other code needs no build with sanitizers.
    """
    parser = argparse.ArgumentParser(description=f"Fuzz {what}{' under sanitizers' if native else ''}.")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--first", type=int, default=0, help="the seed of the first round")
    parser.add_argument("--plain", action="store_true", help="in this process, without sanitizers")
    if kinds:
        parser.add_argument("--only", nargs="+", choices=kinds, default=[*kinds])
    options = parser.parse_args()
    if options.plain or not native:
        run(functools.partial(make, only=options.only) if kinds else make, options.minutes, options.first)
        return
    compiler = os.environ.get("CXX") or shutil.which("g++") or "c++"
    libraries = [
        subprocess.run(
            [compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=True
        ).stdout.strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    with tempfile.TemporaryDirectory() as folder:
        target = _build(Path(folder))
        environment = os.environ | {
            "LD_PRELOAD": " ".join(libraries),
            "PYTHONPATH": f"{target}{os.pathsep}{Path(__file__).parents[1]}",
            "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1:allocator_may_return_null=1",  # the interpreter leaks
            "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
        }
        command = [sys.executable, "-m", module, "--plain"]
        command += ["--minutes", str(options.minutes), "--first", str(options.first)]
        command += ["--only", *options.only] if kinds else []
        raise SystemExit(subprocess.run(command, env=environment).returncode)
