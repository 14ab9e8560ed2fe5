"""Project quotas: what is asked of the kernel, which the tests' own has only in part, and the walk over real files."""

from __future__ import annotations

import errno
import os
import struct
import subprocess
from pathlib import Path

import pytest

from hive_core.infra.disk_quota.project import (
    FSGETXATTR,
    FSSETXATTR,
    NOT_ON,
    Q_GETQUOTA,
    Q_SETQUOTA,
    Q_XGETQSTATV,
    ProjectQuotas,
)
from hive_core.infra.disk_quota.quotas import DirectoryQuotas
from hive_core.infra.storage.files import open_directory

INHERIT = 0x200
GIB = 1024**3
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root may set quotas")


class FakeKernel:
    """The projects of files by inode number, and the limits and uses of projects."""

    def __init__(self, flags: int = 0x30) -> None:
        self.flags = flags
        self.files: dict[int, tuple[int, int]] = {}
        self.limits: dict[int, tuple[int, int]] = {}
        self.used: dict[int, int] = {}

    def quotactl(self, descriptor: int, command: int, project: int, buffer: bytearray) -> None:
        if command == Q_XGETQSTATV:
            struct.pack_into("=H", buffer, 2, self.flags)
        elif command == Q_SETQUOTA:
            blocks, soft, _, files, soft_files, _, _, _, valid = struct.unpack_from("=8QI", buffer)
            assert (soft, soft_files, valid) == (blocks, files, 5)
            self.limits[project] = blocks, files
        else:
            assert command == Q_GETQUOTA
            if project not in self.limits and project not in self.used:
                raise OSError(errno.ENOENT, "as xfs answers")
            blocks, files = self.limits.get(project, (0, 0))
            struct.pack_into("=8QI", buffer, 0, blocks, blocks, self.used.get(project, 0), files, files, 1, 0, 0, 63)

    def ioctl(self, descriptor: int, request: int, buffer: bytearray) -> None:
        inode = os.fstat(descriptor).st_ino
        if request == FSGETXATTR:
            flags, project = self.files.get(inode, (1, 0))
            struct.pack_into("=5I", buffer, 0, flags, 0, 0, project, 0)
        else:
            assert request == FSSETXATTR
            flags, _, _, project, _ = struct.unpack_from("=5I", buffer)
            self.files[inode] = flags, project

    def projects(self) -> ProjectQuotas:
        return ProjectQuotas(self.quotactl, self.ioctl)

    def of(self, path: Path) -> tuple[int, int]:
        return self.files.get(path.lstat().st_ino, (0, 0))


@pytest.fixture
def homes(tmp_path: Path) -> tuple[Path, Path]:
    """The home of an agent with files of all kinds, and the root of its container."""
    home, root = tmp_path / "ada", tmp_path / "h-ada"
    (home / "state/deep").mkdir(parents=True)
    (home / "state/deep/file").write_text("x")
    (home / "state/link").symlink_to(tmp_path / "outside")
    os.mkfifo(home / "state/fifo")
    (tmp_path / "outside").mkdir()
    root.mkdir()
    return home, root


@ROOT
def test_all_files_of_an_agent_belong_to_one_project(tmp_path: Path, homes: tuple[Path, Path]) -> None:
    """Directories hand the number on; links, FIFOs and what is outside are not touched; the limit is the project's."""
    home, root = homes
    kernel = FakeKernel()
    quotas = DirectoryQuotas(kernel.projects())
    found = quotas.enforce([home, root], GIB, stopped=True)
    assert (found.limit, found.problem) == (GIB, "")
    flags, project = kernel.of(home)
    assert project >= 0x48000000
    for path in (home, home / "state", home / "state/deep", root):
        assert kernel.of(path) == (flags, project)
        assert flags & INHERIT
    assert kernel.of(home / "state/deep/file") == (1, project)
    for path in (home / "state/link", home / "state/fifo", tmp_path / "outside", tmp_path):
        assert kernel.of(path) == (0, 0)
    assert kernel.limits == {project: (GIB // 1024, GIB // 4096)}


@ROOT
def test_a_running_agent_is_not_walked_over(homes: tuple[Path, Path]) -> None:
    """Files from before there were quotas count when the agent is stopped, and until then the reason is told."""
    home, root = homes
    kernel = FakeKernel()
    found = DirectoryQuotas(kernel.projects()).enforce([home, root], GIB, stopped=False)
    assert found.limit is None
    assert "made before quotas" in found.problem
    assert not kernel.files


@ROOT
def test_numbers_of_projects_are_not_shared(homes: tuple[Path, Path]) -> None:
    """A number that files have, or that has a limit, is not chosen; one that a directory has is kept."""
    home, _ = homes
    kernel = FakeKernel()
    quotas = DirectoryQuotas(kernel.projects())
    quotas.enforce([home], GIB, stopped=True)
    project = kernel.of(home)[1]
    quotas.enforce([home], 2 * GIB, stopped=True)
    assert kernel.limits == {project: (2 * GIB // 1024, 2 * GIB // 4096)}
    kernel.files.clear()
    quotas.enforce([home], GIB, stopped=True)
    other = kernel.of(home)[1]
    assert other == project + 1
    kernel.files.clear()
    kernel.limits.clear()
    kernel.used[project] = 4096
    quotas.enforce([home], GIB, stopped=True)
    assert kernel.of(home)[1] == other


@ROOT
def test_a_purge_removes_the_limit_and_a_destroy_keeps_it(homes: tuple[Path, Path]) -> None:
    """The root of a destroyed container shares the limit of the home, which stays."""
    home, root = homes
    kernel = FakeKernel()
    quotas = DirectoryQuotas(kernel.projects())
    quotas.enforce([home, root], GIB, stopped=True)
    project = kernel.of(home)[1]
    quotas.forget([root], keep=home)
    assert kernel.limits[project] != (0, 0)
    quotas.forget([home])
    assert kernel.limits == {project: (0, 0)}


@ROOT
def test_deep_trees_take_few_descriptors(tmp_path: Path) -> None:
    """Three thousand nested directories are walked to the last one and back."""
    home = tmp_path / "ada"
    home.mkdir()
    current = os.open(home, os.O_RDONLY)
    for _ in range(3_000):
        os.mkdir("d", dir_fd=current)
        below = os.open("d", os.O_RDONLY, dir_fd=current)
        os.close(current)
        current = below
    (home / "z").mkdir()
    kernel = FakeKernel()
    try:
        DirectoryQuotas(kernel.projects()).enforce([home], GIB, stopped=True)
        assert kernel.files[os.fstat(current).st_ino][1] == kernel.of(home / "z")[1] != 0
    finally:
        os.close(current)
        subprocess.run(["rm", "-rf", "--", home], check=True)  # Too deep for pytest.


@pytest.mark.parametrize(("flags", "said"), [(0, NOT_ON), (0x10, "nothing is limited"), (0x30, "")])
def test_quotas_that_only_count_are_none(tmp_path: Path, flags: int, said: str) -> None:
    """A file system mounted without enforcement is told of as one without quotas."""
    with open_directory(tmp_path) as descriptor:
        problem = FakeKernel(flags).projects().problem(descriptor)
    assert said in problem
    assert bool(problem) == bool(said)


def test_a_file_system_without_quotas_says_so(tmp_path: Path) -> None:
    """The real system call on a file system without project quotas."""
    with open_directory(tmp_path) as descriptor:
        assert ProjectQuotas().problem(descriptor) == NOT_ON


@ROOT
def test_a_refusal_of_the_kernel_is_the_reason(homes: tuple[Path, Path]) -> None:
    """An error of any step is no exception, and no limit is told of."""

    class Refusing(FakeKernel):
        def ioctl(self, descriptor: int, request: int, buffer: bytearray) -> None:
            if request == FSSETXATTR:
                raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
            super().ioctl(descriptor, request, buffer)

    found = DirectoryQuotas(Refusing().projects()).enforce([homes[0]], GIB, stopped=True)
    assert (found.limit, found.used) == (None, None)
    assert "Operation not supported" in found.problem
