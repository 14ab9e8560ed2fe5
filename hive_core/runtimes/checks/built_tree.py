"""The comparison of the files that a build has used with the commit that was proposed."""

from __future__ import annotations

from pathlib import Path

from hive_core.infra.git.comparison.directory_tree import NotATreeError, tree_id
from hive_core.infra.git.repository import Repository
from hive_core.runtimes.base import BuildFailed, BuildOrder


def check_built_tree(order: BuildOrder, files: Path) -> None:
    """Compare every file in `files`, which a build has used, with the commit that was ordered. Blocks.

    Raises BuildFailed if names, contents or executable bits differ: what was built is not what reviewers are shown.
    """
    with Repository.open(order.repository) as repository:
        tree = repository.tree(order.commit)
    try:
        found = tree_id(files)
    except NotATreeError as error:
        why = str(error)
    except OSError as error:
        why = f"they cannot be read: {error.strerror}"
    else:
        if found == tree:
            return
        why = f"their tree is {found}"
    raise BuildFailed(
        f"the files that the build has used are not those of the commit, whose tree is {tree}: {why} ({files})"
    )
