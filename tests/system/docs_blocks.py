"""The code blocks of README, CONTRIBUTING and docs/, and a shell that they are typed into.

What a block's language says of it: sh is typed, all blocks of a page into one shell; a block whose first two lines hold a comment with a file's
name is that file; conf is a home's configuration; usage is what `--help` says, shorter; console is what a command prints; text is a picture."""
import pathlib
import re
import subprocess

from harness import ROOT, until

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FILE = re.compile(r"^(?:#|/\*) ([a-z_]+[.](?:c|py|sh))\b", re.M)
# Below these headings blocks are for a machine or a root directory of their own.
BY_CURL = {"With curl, or anything else", "With nothing but curl", "Uploading it", "Configuring it yourself", "From another machine"}
ELSEWHERE = {
    ("tenant-guide.md", "From your own machine"): "tests/system/test_docs_blocks.py",
    ("operations.md", "Delivery by SFTP"): "tests/system/test_sftp.py",
    ("operations.md", "Out of the embedded one, into another"): "tests/system/test_mongo_dump.py",
    ("scale-out.md", "The front: one name for all cells"): "tests/system/test_cells.py",
    ("operations.md", "Moving a tenant"): "tests/system/test_move.py",
    ("operations.md", "Moving a tenant to another machine"): "tests/system/test_move.py",
    ("install.md", "Debian 12 packages"): "tests/system/test_packages.py",
    ("install.md", "`meson install`"): "tests/system/test_install.py",
    ("install.md", "In a container"): "tests/system/test_container.py",
    ("compatibility.md", "Going back"): "tests/fault/test_migrations.py",
}


class Block:
    def __init__(self, page, language, text, heading):
        self.page, self.language, self.text, self.heading = page, language, text, heading
        name = FILE.search("\n".join(text.split("\n", 2)[:2]))
        self.file = name[1] if name else None

    @property
    def is_elsewhere(self):
        return (self.page, self.heading) in ELSEWHERE and self.language != "text"

    def __repr__(self):
        return f"{self.page}, {self.heading}: {self.language}: {self.text[:60]!r}"


def blocks(name):
    """All of a page's, in order."""
    text, heading, found = (ROOT / name).read_text(), "", []
    for match in re.finditer(r"^#+ ([^\n]*)$|^```(\w*)\n(.*?)^```$", text, re.S | re.M):
        heading = heading if match[1] is None else match[1]
        if match[1] is None:
            found.append(Block(pathlib.Path(name).name, match[2], match[3], heading))
    assert len(found) * 2 == text.count("```"), f"{name}: a fence is not closed, or not at the beginning of its line"
    return found


def blocks_below(name, heading, language="sh"):
    """The texts of those that another test than the page's runs."""
    found = [b.text for b in blocks(name) if b.heading == heading and b.language == language]
    assert found, f"{name} has no block of {language} below {heading}"
    return found


class Page:
    """The blocks of a page (or of some, one after the other), and which of them were run."""

    def __init__(self, name, home, *more, of=lambda b: not b.is_elsewhere and b.heading not in BY_CURL, typed=""):
        """typed: what is typed where a command asks."""
        self.home, self.todo = home, [b for n in (name, *more) for b in blocks(n) if b.language in ("sh", "c", "python") and of(b)]
        self.dir = home.base / "empty"
        self.dir.mkdir()
        for folder in ("build", "clientlib", "tenants"):
            (self.dir / folder).symlink_to(ROOT / folder)
        (self.dir / ".typed").write_text(typed)
        self.log = self.dir / ".said"
        self.shell, self.marks = None, 0
        # What it does was done before: that it takes these options is all there is to be seen.
        self.program("scripts/setup", f'exec {ROOT}/scripts/setup "$@" --help')

    def program(self, name, text):
        """An executable in the directory that stands for another one."""
        path = self.dir / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def start(self, **env):
        keep = {k: v for k, v in self.home.env.items() if k != "MONGO_URL"}
        env = {**keep, "MYSIMBDP_HOME": str(self.home.path), "HOME": str(self.dir), **env}
        self.shell = subprocess.Popen(["bash", "-eu"], cwd=self.dir, env={k: v for k, v in env.items() if v is not None}, stdin=subprocess.PIPE,
                                      stdout=open(self.log, "w"), stderr=subprocess.STDOUT, text=True)

    def said(self):
        return self.log.read_text(errors="replace")

    def wait(self, word):
        until(lambda: word in self.said() or self.shell.poll() is not None, self.dir, timeout=180, what=lambda: f"{word}: {self.said()}")
        assert word in self.said(), self.said()

    def type(self, text):
        """As a person does: goes on when the prompt is there again."""
        self.marks += 1
        part = self.dir / f".block{self.marks}"
        part.write_text(text)
        self.shell.stdin.write(f". {part} <.typed; echo '<<{self.marks}>>'\n")
        self.shell.stdin.flush()
        self.wait(f"<<{self.marks}>>")

    def next(self, language):
        """The next block, which has to be of that language; a file is written."""
        block = self.todo.pop(0)
        assert block.language == language, f"another block comes before one of {language}: {block}"
        if block.file:
            (self.dir / block.file).write_text(block.text)
            return self.dir / block.file
        return block.text

    def run_shell(self):
        """All blocks up to the end: files are written, commands typed."""
        while self.todo:
            block = self.todo[0]
            text = self.next(block.language)
            if block.file:
                continue
            assert block.language == "sh", f"what is to be done with this? {block}"
            before, background, after = text.partition("up &")
            self.type(before + background + (after.split("\n", 1)[0] if background else ""))
            if background:
                self.wait("mysimbdp: ready")
                self.type(after.split("\n", 1)[1])

    def end(self):
        assert self.todo == [], "not run"
        if self.shell:
            self.shell.communicate(timeout=60)
            assert self.shell.returncode == 0, self.said()

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        if failure[0] and self.shell and self.shell.poll() is None:
            self.home.cli("down", check=False)
            self.shell.kill()
            self.shell.wait()
