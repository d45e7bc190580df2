"""Puts the shared library beside the module where the tree has built it; elsewhere the system's is used. A wheel with it is for
this machine's architecture, and for any Python."""
import pathlib
import shutil
import sysconfig

from setuptools import setup
from setuptools.command.build_py import build_py

LIBRARY = pathlib.Path(__file__).resolve().parents[2] / "build" / "clientlib" / "libsimbdp.so.1"


class WithLibrary(build_py):
    def run(self):
        super().run()
        if LIBRARY.exists() and not self.editable_mode:
            pathlib.Path(self.build_lib).mkdir(parents=True, exist_ok=True)
            shutil.copy(LIBRARY, self.build_lib)


commands = {"build_py": WithLibrary}
try:
    from wheel.bdist_wheel import bdist_wheel
except ImportError:  # newer setuptools have it
    try:
        from setuptools.command.bdist_wheel import bdist_wheel
    except ImportError:
        bdist_wheel = None
if bdist_wheel and LIBRARY.exists():
    class ForPlatform(bdist_wheel):
        def get_tag(self):
            return "py3", "none", sysconfig.get_platform().replace("-", "_").replace(".", "_")

    commands["bdist_wheel"] = ForPlatform

setup(cmdclass=commands)
