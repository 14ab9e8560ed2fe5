"""What hostile agents commit: how each is made, and with which code and words it is refused."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tests.helpers.git_repos import AGENT_FILES, AgentRepositories, git

Make = Callable[[AgentRepositories], str]
"""Makes the repository; gives what is proposed."""


@dataclass(frozen=True)
class Case:
    """A repository that must be refused with this code, and with these words in the message."""

    name: str
    make: Make
    code: str
    words: str


def _file_modes(mode: str, name: str, data: bytes) -> Make:
    return lambda repositories: repositories.commit_with((mode, repositories.blob(data), name))


def _name(name: str) -> Make:
    return _file_modes("100644", name, b"x\n")


def _many_files(repositories: AgentRepositories) -> str:
    blob = repositories.blob(b"x\n")
    return repositories.commit_with(
        ("40000", repositories.tree([("100644", blob, f"f{n:06}") for n in range(100_000)]), "many")
    )


def _tree_bomb(leaf: str) -> Make:
    def make(repositories: AgentRepositories) -> str:
        tree = repositories.tree([("100644", repositories.blob(b"x\n"), "file")] if leaf else [])
        for _ in range(30):
            tree = repositories.tree([("40000", tree, "a"), ("40000", tree, "b")])
        return repositories.commit_with(("40000", tree, "bomb"))

    return make


def _git_link(repositories: AgentRepositories, what: str) -> None:
    """Move `.git`, or something in it, outside, and leave a link to it."""
    inside, moved = repositories.config / what, repositories.outside / "moved"
    inside.rename(moved)
    inside.symlink_to(moved)


def _linked(what: str) -> Make:
    def make(repositories: AgentRepositories) -> str:
        commit = repositories.change({"prompt.md": "other\n"})
        _git_link(repositories, what)
        return commit

    return make


def _git_file(repositories: AgentRepositories) -> str:
    commit = repositories.change({"prompt.md": "other\n"})
    (repositories.config / ".git").rename(repositories.outside / "moved")
    (repositories.config / ".git").write_text(f"gitdir: {repositories.outside / 'moved'}\n")
    return commit


def _alternates(repositories: AgentRepositories) -> str:
    commit = repositories.change({"prompt.md": "other\n"})
    repositories.objects.rename(repositories.outside / "objects")
    (repositories.objects / "info").mkdir(parents=True)
    (repositories.objects / "info" / "alternates").write_text(f"{repositories.outside / 'objects'}\n")
    return commit


def _huge(kind: str) -> Make:
    def make(repositories: AgentRepositories) -> str:
        sha = repositories.write_huge(kind)
        return sha if kind == "commit" else repositories.commit_with(("100644", sha, "zeros"))

    return make


def _huge_before(repositories: AgentRepositories) -> str:
    """A huge file that a later commit has removed again."""
    first = repositories.commit_with(("100644", repositories.write_huge("blob"), "zeros"))
    tree = git(repositories.config, "rev-parse", f"{repositories.base}^{{tree}}")
    return repositories.commit_tree(tree, first)


def _many_keys(count: int) -> Make:
    return lambda repositories: repositories.change({"agent.toml": "".join(f"k{n}=1\n" for n in range(count))})


def _spoiled(what: str, data: bytes | None) -> Make:
    def make(repositories: AgentRepositories) -> str:
        commit = repositories.change({"prompt.md": "other\n"})
        sha = git(repositories.config, "rev-parse", commit + what)
        if data is None:
            repositories.loose(sha).unlink()
        else:
            repositories.replace(sha, data)
        return commit

    return make


def _swapped(repositories: AgentRepositories) -> str:
    """A file of which the object is another's: its content does not fit its id."""
    commit = repositories.change({"prompt.md": "other\n"})
    other = repositories.loose(repositories.blob(b"something else\n")).read_bytes()
    repositories.replace(git(repositories.config, "rev-parse", f"{commit}:prompt.md"), other)
    return commit


def _packed(spoil: Callable[[AgentRepositories], None]) -> Make:
    def make(repositories: AgentRepositories) -> str:
        commit = repositories.change({"prompt.md": "other\n"})
        git(repositories.config, "update-ref", "refs/heads/main", commit)
        git(repositories.config, "repack", "-a", "-d", "-q")
        spoil(repositories)
        return commit

    return make


def _fifo_for_pack(repositories: AgentRepositories) -> None:
    pack = next((repositories.objects / "pack").glob("*.pack"))
    pack.unlink()
    os.mkfifo(pack)


def _damaged_pack(repositories: AgentRepositories) -> None:
    pack = next((repositories.objects / "pack").glob("*.pack"))
    data = bytearray(pack.read_bytes())
    data[20:-40] = bytes(len(data) - 60)
    pack.unlink()
    pack.write_bytes(data)


def _fifo_for_commit(repositories: AgentRepositories) -> str:
    commit = repositories.change({"prompt.md": "other\n"})
    repositories.loose(commit).unlink()
    os.mkfifo(repositories.loose(commit))
    return commit


def _named(name: str) -> Make:
    def make(repositories: AgentRepositories) -> str:
        repositories.change({"prompt.md": "other\n"})
        git(repositories.config, "tag", "v1")
        return name

    return make


def _part_of_id(repositories: AgentRepositories) -> str:
    return repositories.change({"prompt.md": "other\n"})[:12]


def _object(what: str) -> Make:
    def make(repositories: AgentRepositories) -> str:
        git(repositories.config, "tag", "-a", "-m", "x", "v1", repositories.change({"prompt.md": "other\n"}))
        return git(repositories.config, "rev-parse", what)

    return make


def _unrelated(repositories: AgentRepositories) -> str:
    first = repositories.change({"prompt.md": "other\n"})
    tree = git(repositories.config, "rev-parse", f"{first}^{{tree}}")
    return git(repositories.config, "commit-tree", "-m", "first", tree)


def _forged_parent(repositories: AgentRepositories) -> str:
    tree = git(repositories.config, "rev-parse", "HEAD^{tree}")
    who = "ada <ada@hive> 1 +0000"
    # A parent is one only right below the tree; fsck allows any header further down.
    return repositories.write(
        "commit", f"tree {tree}\nauthor {who}\ncommitter {who}\nparent {repositories.base}\n\nx\n".encode()
    )


def _beside(repositories: AgentRepositories) -> str:
    """A commit on what was deployed before."""
    older, newer = repositories.base, repositories.change({"prompt.md": "deployed\n"})
    git(repositories.config, "push", "-q", str(repositories.applied), f"{newer}:refs/heads/main")
    return repositories.commit_tree(
        repositories.tree([("100644", repositories.blob(b""), name) for name in AGENT_FILES]), older
    )


def _no_repository(repositories: AgentRepositories) -> str:
    shutil.rmtree(repositories.config / ".git")
    return "1" * 40


def _empty_repository(repositories: AgentRepositories) -> str:
    shutil.rmtree(repositories.config / ".git")
    git(repositories.config, "init", "-q")
    return "1" * 40


def _bad_author(repositories: AgentRepositories) -> str:
    tree = git(repositories.config, "rev-parse", "HEAD^{tree}")
    text = f"tree {tree}\nparent {repositories.base}\nauthor nobody\ncommitter nobody\n\nx\n"
    return repositories.write("commit", text.encode())


def _without(name: str) -> Make:
    return lambda p: p.commit_tree(p.tree([("100644", p.blob(b""), other) for other in AGENT_FILES if other != name]))


def _prompt(data: bytes) -> Make:
    return lambda p: p.commit_tree(
        p.tree([("100644", p.blob(data if n == "prompt.md" else b""), n) for n in AGENT_FILES])
    )


@dataclass(frozen=True)
class Content:
    """Files that must be refused with this code, and with these words in the message; or taken, if there is no code."""

    name: str
    files: Mapping[str, bytes]
    code: str = ""
    words: str = ""

    def make(self, repositories: AgentRepositories) -> str:
        """Make a commit of the usual files with these, some of which are in directories."""
        found = {name: text.encode() for name, text in AGENT_FILES.items()} | dict(self.files)
        tops = [("100644", repositories.blob(data), path) for path, data in found.items() if "/" not in path]
        for path, data in found.items():
            top, _, name = path.partition("/")
            if name:
                tops.append(("40000", repositories.tree([("100644", repositories.blob(data), name)]), top))
        return repositories.commit_tree(repositories.tree(tops))


def _toml(text: str) -> dict[str, bytes]:
    return {"agent.toml": f'backend = "scripted"\n{text}\n'.encode()}


_EVIL = "{ systemd.services.evil.script = ''curl http://evil''; }"
_PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\xff\xfe"
_PNG_ALLOWED = {**_toml('binary_files = ["assets/*.png"]'), "assets/logo.png": _PNG}
REFUSED_CONTENTS = [
    Content("attributes that substitute", {".gitattributes": b"*.nix export-subst\n"}, "bad_tree", "one of git's own"),
    Content("attributes that leave out", {"sub/.gitattributes": b"* export-ignore\n"}, "bad_tree", "'.gitattributes'"),
    Content("attributes with a filter", {".GitAttributes": b"* filter=x diff=x merge=x\n"}, "bad_tree", "git's own"),
    Content("attributes in wide letters", {".\uff47itattributes": b"* -diff\n"}, "bad_tree", "one of git's own"),
    Content("short name of attributes", {"GITATT~1": b"* -diff\n"}, "bad_tree", "one of git's own"),
    Content("hashed short name of attributes", {"gi7d29~1": b"* -diff\n"}, "bad_tree", "one of git's own"),
    Content("stream of attributes", {".gitattributes:x": b"* -diff\n"}, "bad_tree", "one of git's own"),
    Content("list of submodules", {".gitmodules": b""}, "bad_tree", "one of git's own"),
    Content("settings of git-lfs", {".lfsconfig": b"[lfs]\nurl = http://evil\n"}, "bad_tree", "one of git's own"),
    Content("names of authors", {".mailmap": b"The operator <operator@hive> <ada@x>\n"}, "bad_tree", "git's own"),
    Content(
        "NUL in agent.nix", {"agent.nix": b"{ }\n# \0\n"}, "bad_text", "'agent.nix', line 2: the character U+0000 (NUL)"
    ),
    Content("NUL in another file", {"notes.txt": b"a\0b"}, "bad_text", "'notes.txt', line 1: the character U+0000"),
    Content("NUL at the end of a large file", {"z.txt": b"x\n" * 500_000 + b"\0"}, "bad_text", "line 500001"),
    Content(
        "NUL in agent.toml", {"agent.toml": b"# \0\n"}, "bad_agent_toml", "agent.toml, line 1: the character U+0000"
    ),
    Content("UTF-16 with its mark", {"module.nix": _EVIL.encode("utf-16")}, "bad_text", "line 1: not valid UTF-8"),
    Content("UTF-16 without a mark", {"module.nix": _EVIL.encode("utf-16-le")}, "bad_text", "U+0000"),
    Content("UTF-32", {"notes.txt": _EVIL.encode("utf-32-be")}, "bad_text", "U+0000"),
    Content("UTF-7 beside Latin-1", {"notes.txt": b"+ADs-\n\xe9t\xe9\n"}, "bad_text", "line 2: not valid UTF-8"),
    Content("overlong newline", {"notes.txt": b"a\n\xc0\x8a"}, "bad_text", "line 2: not valid UTF-8"),
    Content("surrogate", {"notes.txt": b"\xed\xa0\x80"}, "bad_text", "line 1: not valid UTF-8"),
    Content("character that is cut off", {"notes.txt": b"a\xe2\x82"}, "bad_text", "line 1: not valid UTF-8"),
    Content("byte order mark in Nix code", {"agent.nix": b"\xef\xbb\xbf{ }\n"}, "bad_text", "U+FEFF"),
    Content("byte order mark in agent.toml", {"agent.toml": b"\xef\xbb\xbf# x\n"}, "bad_agent_toml", "U+FEFF"),
    Content("undeclared picture", {"assets/logo.png": _PNG}, "bad_text", "'assets/logo.png', line 1: not valid UTF-8"),
    Content("picture elsewhere", {**_PNG_ALLOWED, "logo.png": _PNG}, "bad_text", "'logo.png', line 1"),
    Content(
        "Nix code as a declared file",
        {**_toml('binary_files = ["assets/**/*.png", "*.x"]'), "a.nix": b"\0", "b.x": b"\0"},
        "bad_text",
        "'a.nix', line 1",
    ),
    Content("Nix code by a pattern", _toml('binary_files = ["*.nix"]'), "bad_agent_toml", "Nix code are always text"),
    Content("every file by a pattern", _toml('binary_files = ["**"]'), "bad_agent_toml", "a suffix without wildcards"),
    Content("any ending by a pattern", _toml('binary_files = ["a.[!x]*"]'), "bad_agent_toml", "without wildcards"),
    Content("lone CR ends a comment", {"agent.nix": b"# made by hand\r" + _EVIL.encode()}, "bad_text", "U+000D"),
    Content("lone CR in a text", {"notes.txt": b"a\r\nb\rc\n"}, "bad_text", "'notes.txt', line 2"),
    Content("CR at the very end", {"notes.txt": b"a\n\r"}, "bad_text", "line 2: the character U+000D"),
    Content("line separator", {"notes.txt": "# a\u2028b".encode()}, "bad_text", "U+2028 (line separator)"),
    Content("next line", {"notes.txt": "# a\x85b".encode()}, "bad_text", "U+0085"),
    Content("form feed", {"notes.txt": b"# a\x0cb"}, "bad_text", "U+000C (form feed)"),
    Content("terminal escape", {"notes.txt": b"# a\x1b[2Jb"}, "bad_text", "U+001B (escape)"),
    Content("override in Nix code", {"agent.nix": "# \u202e } {\n{ }\n".encode()}, "bad_text", "U+202E"),
    Content("isolate in a text", {"notes.txt": "\u2066admin\u2069".encode()}, "bad_text", "U+2066"),
    Content("override in prompt.md", {"prompt.md": "a\n\u202eb".encode()}, "bad_prompt", "prompt.md, line 2"),
    Content("text of tags", {"prompt.md": "You help.\U000e0041\U000e0042".encode()}, "bad_prompt", "U+E0041"),
    Content("empty Braille pattern", {"agent.nix": "{ a\u2800 = 1; }\n".encode()}, "bad_text", "U+2800"),
    Content("Hangul filler", {"a.nix": "x: \u3164: x\n".encode()}, "bad_text", "U+3164 (hangul filler)"),
    Content("variation selector", {"A.NIX": "x: a\ufe0f: x\n".encode()}, "bad_text", "U+FE0F"),
    Content("zero width space", {"agent.toml": "# a\u200bb\n".encode()}, "bad_agent_toml", "U+200B"),
    Content("joiner between letters", {"agent.nix": "{ a\u200d = 1; }\n".encode()}, "bad_text", "U+200D"),
    Content("joiner between other letters", {"agent.nix": "{ } # é\u200cé\n".encode()}, "bad_text", "U+200C"),
    Content("joiner at the very end", {"agent.nix": "{ } # é\u200d".encode()}, "bad_text", "U+200D"),
]
"""Content that hides something from a reviewer, or that a reviewer and Nix read differently."""
TAKEN_CONTENTS = [
    Content("declared picture", _PNG_ALLOWED),
    Content("CR LF", {"agent.nix": b"{ }\r\n# a\r\n", "prompt.md": b"a\r\nb\r\n"}),
    Content("emoji and scripts", {"agent.nix": "# ⚠️ 1️⃣ \u0645\u06cc\u062e 日本語\n{ }\n".encode()}),
    Content("joiners in a text", {"prompt.md": "⚠️ 👩\u200d💻 \u0645\u06cc\u200c\u062e\n".encode()}),
    Content("signs of width 0 in a text", {"prompt.md": "a\u200bb \u2800\u3164 \ufeff x\ufe0f \u200e\n".encode()}),
    Content("empty files", {"a.nix": b"", "b.txt": b"", "prompt.md": b""}),
    Content("large text that sorts first", {"a.txt": ("ü" * 79 + "\n").encode() * 12_000}),
    Content("many files that sort first", {f"a{n:03}": b"x" * 10_000 for n in range(300)}),
    Content("one line of a mebibyte", {"a.txt": ("ü\u200b" * 200_000).encode()}),
    Content("git's other names", {".gitignore": b"*.o\n", "gitattributes": b"", "mailmap": b""}),
]
"""Content that is taken, and that a review must show in whole and escaped."""

_LONG = ["d" * 199] * 20
_SUBMODULE = "160000", "1" * 40, "sub"
CASES = [
    Case(
        "symlink to the shadow file", _file_modes("120000", "link", b"/etc/shadow"), "bad_tree", "'link' is a symbolic"
    ),
    Case(
        "symlink for a needed file",
        lambda p: p.commit_tree(p.tree([("120000", p.blob(b"/etc/shadow"), n) for n in AGENT_FILES])),
        "bad_tree",
        "is a symbolic link",
    ),
    Case(
        "directory without files",
        lambda repositories: repositories.commit_with(("40000", repositories.tree([]), "void")),
        "bad_tree",
        "the directory 'void' has no files",
    ),
    Case("submodule", lambda repositories: repositories.commit_with(_SUBMODULE), "bad_tree", "'sub' is a submodule"),
    Case("2 GiB file", _huge("blob"), "too_large", "has 2,147,483,648 bytes, at most 5,242,880 are allowed (77e9132b"),
    Case("2 GiB file in between", _huge_before, "too_large", "one before it, has 2,147,483,648 bytes"),
    Case("2 GiB commit", _huge("commit"), "too_large", "more memory or time"),
    Case("100,000 files", _many_files, "too_many_files", "more than 1,000 files"),
    Case("tree bomb of files", _tree_bomb("file"), "too_many_files", "more than 1,000 files or directories"),
    Case("tree bomb of directories", _tree_bomb(""), "too_many_files", "more than 1,000 files or directories"),
    Case(
        "path of 4,000 characters",
        lambda repositories: repositories.commit_with(repositories.nested(_LONG)),
        "bad_tree",
        "more than 1,000 bytes",
    ),
    Case("name of 4,000 characters", _name("n" * 4_000), "bad_tree", "has 4,000 bytes"),
    Case(
        "100 directories deep",
        lambda repositories: repositories.commit_with(repositories.nested(["d"] * 100)),
        "bad_tree",
        "more than 32 directories deep",
    ),
    Case(
        "look-alike of .git",
        lambda repositories: repositories.commit_with(repositories.nested([".GIT", "config"])),
        "bad_tree",
        "hasDotgit",
    ),
    Case("short name of .git", _name("git~1"), "bad_tree", "hasDotgit"),
    Case(".git with an invisible character", _name(".g\u200cit"), "bad_tree", "hasDotgit"),
    Case(
        "parent directory",
        lambda repositories: repositories.commit_with(repositories.nested(["..", "etc"])),
        "bad_tree",
        "hasDotdot",
    ),
    Case("control character in a name", _name("a\x1b[2Jb"), "bad_tree", "'a\\x1b[2Jb' has a control character"),
    Case("no agent.toml", _without("agent.toml"), "bad_tree", "no file agent.toml"),
    Case("agent.toml with a million keys", _many_keys(1_000_000), "too_large", "has 9,888,890 bytes"),
    Case("agent.toml with 100,000 keys", _many_keys(100_000), "bad_agent_toml", "at most 65,536 are allowed"),
    Case(
        "agent.toml with 7,000 keys",
        _many_keys(7_000),
        "bad_agent_toml",
        "agent.toml: k0: there is no such key",
    ),
    Case(
        "wrong value in agent.toml",
        lambda p: p.change({"agent.toml": "\n\nturn_timeout = 90_000\n"}),
        "bad_agent_toml",
        "agent.toml: turn_timeout: it may be at most 86,400",
    ),
    Case(
        "prompt that is no text",
        _prompt(b"a\n\xff\n"),
        "bad_prompt",
        "prompt.md, line 2",
    ),
    Case(".git is a link", _linked(".git"), "bad_repository", ".git is a symbolic link"),
    Case(".git is a file", _git_file, "bad_repository", ".git is a file"),
    Case("objects is a link", _linked(".git/objects"), "bad_repository", ".git/objects is a symbolic link"),
    Case(
        "objects/pack is a link", _linked(".git/objects/pack"), "bad_repository", ".git/objects/pack is a symbolic link"
    ),
    Case(
        "objects/info is a link", _linked(".git/objects/info"), "bad_repository", ".git/objects/info is a symbolic link"
    ),
    Case("alternates", _alternates, "bad_repository", "borrows objects from elsewhere"),
    Case("FIFO for a pack", _packed(_fifo_for_pack), "bad_repository", "is a special file"),
    Case("FIFO for a commit", _fifo_for_commit, "intake_slow", "took more than"),
    Case("damaged pack", _packed(_damaged_pack), "bad_object", "git cannot read the commit"),
    Case("missing file", _spoiled(":prompt.md", None), "bad_object", "git cannot read the commit"),
    Case("missing tree", _spoiled("^{tree}", None), "bad_object", "git cannot read the commit"),
    Case("garbage for a file", _spoiled(":prompt.md", b"garbage"), "bad_object", "is corrupt"),
    Case("garbage for a commit", _spoiled("", b"garbage"), "bad_object", "git cannot read the commit"),
    Case("nothing for a tree", _spoiled("^{tree}", b""), "bad_object", "git cannot read the commit"),
    Case("another file's content", _swapped, "bad_object", "is not what its id says"),
    Case("commit without an author", _bad_author, "bad_object", "git fsck refuses"),
    Case("branch name", _named("main"), "bad_commit", "'main' is not a full commit id"),
    Case("tag name", _named("v1"), "bad_commit", "'v1' is not a full commit id"),
    Case("option", _named("--all"), "bad_commit", "'--all' is not a full commit id"),
    Case("part of an id", _part_of_id, "bad_commit", "is not a full commit id"),
    Case("id of a tag", _object("v1"), "bad_commit", "is a tag, not a commit"),
    Case("id of a tree", _object("v1^{tree}"), "bad_commit", "is a tree, not a commit"),
    Case("id of a blob", _object("v1:prompt.md"), "bad_commit", "is a blob, not a commit"),
    Case("no such commit", lambda _: "1" * 40, "no_such_commit", "has no commit 1111"),
    Case("unrelated history", _unrelated, "not_rebased", "does not build on"),
    Case("header that looks like a parent", _forged_parent, "not_rebased", "does not build on"),
    Case("beside what is deployed", _beside, "not_rebased", "does not build on"),
    Case("no repository", _no_repository, "no_repository", ".git/objects is missing"),
    Case("empty repository", _empty_repository, "no_such_commit", "has no commit 1111"),
    *(Case(content.name, content.make, content.code, content.words) for content in REFUSED_CONTENTS),
]
