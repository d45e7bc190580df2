"""Puts the shared library beside the module where the tree has built it; elsewhere the system's is used."""
import pathlib
import shutil

from setuptools import setup
from setuptools.command.build_py import build_py

LIBRARY = pathlib.Path(__file__).resolve().parents[2] / "build" / "clientlib" / "libsimbdp.so.1"


class WithLibrary(build_py):
    def run(self):
        super().run()
        if LIBRARY.exists() and not self.editable_mode:
            pathlib.Path(self.build_lib).mkdir(parents=True, exist_ok=True)
            shutil.copy(LIBRARY, self.build_lib)


setup(cmdclass={"build_py": WithLibrary})
