"""What pyproject.toml cannot say: a wheel also holds the migrations and the built page.

Both are folders beside the packages. In an installed copy `alembic` is the library of that name, so they go into a
folder of their own, `ollagraph_data`, where db/revisions.py and server/page.py look for them. An editable installation
needs none of this: it runs from the folders themselves.
"""

from collections.abc import Iterator
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
DATA = Path("ollagraph_data")
FOLDERS = {Path("alembic"): DATA / "alembic", Path("web", "dist"): DATA / "web"}
"""Folder in the project, and its place in the wheel."""


class BuildWithData(build_py):
    """Copies the folders beside the packages into the wheel."""

    def run(self) -> None:
        """Build the packages, and add the folders. Warns where the page has not been built: the wheel has none then."""
        super().run()
        if self.editable_mode:
            return
        if not (ROOT / "web" / "dist" / "index.html").is_file():
            self.warn("The page has not been built, and this wheel has none. Run `make page` first.")
        for source, target in self._data():
            self.mkpath(str(target.parent))
            self.copy_file(str(source), str(target))

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """Name everything that the build writes."""
        data = [] if self.editable_mode else [str(target) for _, target in self._data()]
        return [*super().get_outputs(include_bytecode), *data]

    def _data(self) -> Iterator[tuple[Path, Path]]:
        """Give each file beside the packages, and where it goes."""
        for folder, target in FOLDERS.items():
            for file in sorted((ROOT / folder).rglob("*")):
                if file.is_file() and "__pycache__" not in file.parts:
                    yield file, Path(self.build_lib) / target / file.relative_to(ROOT / folder)


setup(cmdclass={"build_py": BuildWithData})
