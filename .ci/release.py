"""Make what a release consists of: `python .ci/release.py [FOLDER]`, by default into dist/.

    ollagraph-X.tar.gz              the sources, with the built page
    ollagraph-X-py3-none-any.whl    built from that archive, so that it is shown to build
    ollagraph-X.cdx.json            the bill of materials (CycloneDX)
    SHA256SUMS                      check with: sha256sum --check SHA256SUMS

The same commit gives the same bytes with the same versions of setuptools and of the page's tools: every time in the
files is that of the commit, or SOURCE_DATE_EPOCH.
"""

import argparse
import gzip
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from parts import ROOT
from sbom import main as write_sbom


def run(*command: str, cwd: Path = ROOT) -> str:
    """Run a command and give what it printed. Ends with what it said where it fails."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)  # noqa: S603 - nothing from outside
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def git(*arguments: str) -> str:
    """Ask git, also in a checkout that belongs to somebody else, as in a container."""
    return run("git", "-c", "safe.directory=*", *arguments)


def copy_sources(target: Path) -> None:
    """Copy the files of the repository, and the built page. Nothing else that lies about can get into a release."""
    names = git("ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    page = [str(file.relative_to(ROOT)) for file in (ROOT / "web" / "dist").rglob("*")]
    if "web/dist/index.html" not in page:
        raise SystemExit("The page has not been built. Run `make page` first.")
    for name in filter(None, [*names, *page]):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target / name)


def build(kind: str, sources: Path, folder: Path) -> Path:
    """Build a distribution with the setuptools that is installed here, without a network: PEP 517's hooks, no more."""
    folder.mkdir()
    hook = f"import sys; from setuptools import build_meta; build_meta.build_{kind}(sys.argv[1])"
    run(sys.executable, "-c", hook, str(folder), cwd=sources)
    (made,) = folder.iterdir()
    return made


def members(archive: Path) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    """Give the files of an archive by name, as anybody at any time would have packed them."""
    with tarfile.open(archive) as tar:
        for found in sorted(tar.getmembers(), key=lambda it: it.name):
            if (file := tar.extractfile(found)) is not None:
                member = tarfile.TarInfo(found.name)
                member.size, member.mode, member.mtime = found.size, 0o644, epoch()
                yield member, file.read()


def pack_again(archive: Path, target: Path) -> None:
    """Write an archive without what depends on who made it, and when."""
    with target.open("wb") as file, gzip.GzipFile("", "wb", fileobj=file, mtime=epoch()) as packed:
        with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for member, content in members(archive):
                tar.addfile(member, io.BytesIO(content))


def epoch() -> int:
    """Give the time that all files of the release have, in seconds since 1970."""
    return int(os.environ["SOURCE_DATE_EPOCH"])


def release(folder: Path) -> None:
    """Make all files."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in [*folder.glob("ollagraph-*"), folder / "SHA256SUMS"]:
        old.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        sources, raw, unpacked = (Path(temporary, name) for name in ("sources", "raw", "unpacked"))
        copy_sources(sources)
        made = build("sdist", sources, raw)
        archive = folder / made.name
        pack_again(made, archive)
        with tarfile.open(archive) as tar:
            tar.extraction_filter = getattr(tarfile, "data_filter", None)  # not in 3.11.0 to 3.11.3
            tar.extractall(unpacked)  # noqa: S202 - what was packed here
        (tree,) = unpacked.iterdir()
        wheel = build("wheel", tree, Path(temporary, "wheel"))
        shutil.copyfile(wheel, folder / wheel.name)
    write_sbom(str(folder / f"{archive.name.removesuffix('.tar.gz')}.cdx.json"))
    files = sorted(folder.glob("ollagraph-*"))
    sums = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files]
    (folder / "SHA256SUMS").write_text("".join(sums))
    sys.stdout.writelines(sums)


def main() -> None:
    """Make a release of a commit; of a checkout with changes only where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "dist")
    parser.add_argument("--with-changes", action="store_true", help="also with changes that are not committed")
    arguments = parser.parse_args()
    if not arguments.with_changes and (changes := git("status", "--porcelain", "--untracked-files=no")):
        raise SystemExit(f"These changes are not committed, so this would be the release of no commit:\n{changes}")
    os.environ.setdefault("SOURCE_DATE_EPOCH", git("log", "-1", "--format=%ct").strip())
    release(arguments.folder.resolve())


if __name__ == "__main__":
    main()
