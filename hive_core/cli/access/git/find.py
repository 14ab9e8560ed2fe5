"""The words with which a script finds a repository in an agent."""

from __future__ import annotations

FIND = """\
code=${HIVE_AGENT_CODE:-/code}
case $1 in
  /*) repository=$1 ;;
  "") set -- "$code"/*/.git "$2"
      [ $# = 2 ] && [ -e "$1" ] || { echo "name one of the repositories in $code: $(ls "$code" 2>&1)" >&2; exit 3; }
      repository=${1%/.git}; shift; set -- "" "$1" ;;
  *) repository=$code/$1 ;;
esac
cd "$repository" || exit 3
"""
"""The beginning of a script of sh, which goes to the repository that its first argument names."""
