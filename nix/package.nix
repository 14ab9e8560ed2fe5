# hyperhive's programs: hive-c0re for the host, hive-ag3nt and hive-m1nd for containers.
#
# They start each other and the MCP server as `sys.executable -m ...`. So that this finds the packages, they run in an
# environment that has a Python of its own; the usual wrappers of buildPythonApplication would add the packages only to
# the program that was started.
{
  lib,
  runCommand,
  makeBinaryWrapper,
  gobject-introspection,
  glib,
  python3,
}:

let
  python3Packages = python3.pkgs;
  own = import ./python { inherit python3Packages; };
  source = lib.fileset.toSource {
    root = ../.;
    fileset = lib.fileset.unions [
      ../pyproject.toml
      ../README.md
      (lib.fileset.fileFilter isProgram ../hive_core)
      (lib.fileset.fileFilter isProgram ../hive_agent)
      (lib.fileset.fileFilter isProgram ../hive_manager)
    ];
  };
  isProgram = file: !file.hasExt "pyc";
  version = builtins.head (
    builtins.match ''.*__version__ = "([^"]+)".*'' (builtins.readFile ../hive_core/__init__.py)
  );

  library = python3Packages.buildPythonPackage {
    pname = "hyperhive";
    inherit version;
    pyproject = true;
    src = source;
    build-system = [ python3Packages.setuptools ];
    dependencies = [
      own.mcp
      python3Packages.aiohttp
      python3Packages.aiosqlite
      python3Packages.argon2-cffi
      python3Packages.asyncssh
      python3Packages.click
      python3Packages.cryptography
      python3Packages.gitpython
      python3Packages.h11
      python3Packages.idna
      python3Packages.jinja2
      python3Packages.linkify-it-py
      python3Packages.markdown-it-py
      python3Packages.mdit-py-plugins
      python3Packages.prometheus-client
      python3Packages.publicsuffixlist
      python3Packages.pydantic
      python3Packages.pydbus
      python3Packages.pygments
      python3Packages.pygobject3
      python3Packages.rich
      python3Packages.structlog
      python3Packages.tomli-w
      python3Packages.uvloop
      python3Packages.webauthn
    ];
    pythonRelaxDeps = [
      "aiohttp" # nixos-25.11 has 3.13, with which the tests of the sockets pass, too
    ];
    pythonImportsCheck = [
      "hive_agent"
      "hive_core.daemon"
      "hive_core.runtimes.nixos.runtime"
      "hive_manager"
    ];
    # Needs a D-Bus library at the import of the runtime, here as in the programs below.
    nativeBuildInputs = [ gobject-introspection ];
    buildInputs = [ glib ];
  };

  environment = python3.withPackages (_: [ library ]);
in
runCommand "hyperhive-${version}"
  {
    pname = "hyperhive";
    inherit version;
    # The hook of gobject-introspection puts what is found in glib into GI_TYPELIB_PATH.
    nativeBuildInputs = [
      gobject-introspection
      makeBinaryWrapper
    ];
    buildInputs = [ glib ];
    passthru = { inherit library environment; };
    meta = {
      description = "Many coding agents on one NixOS host: a container, a message box and a gate for each";
      mainProgram = "hive-c0re";
      platforms = lib.platforms.linux;
    };
  }
  ''
    program() {
      makeWrapper ${environment}/bin/python3 "$out/bin/$1" --add-flags "-P -m $2" "''${@:3}"
    }
    program hive-c0re hive_core --prefix GI_TYPELIB_PATH : "$GI_TYPELIB_PATH"
    program hive-ag3nt hive_agent
    program hive-m1nd hive_manager

    for name in bash zsh fish; do
      $out/bin/hive-c0re completion "$name" > "completion.$name"
    done
    install -D completion.bash $out/share/bash-completion/completions/hive-c0re
    install -D completion.zsh $out/share/zsh/site-functions/_hive-c0re
    install -D completion.fish $out/share/fish/vendor_completions.d/hive-c0re.fish

    # What only shows when it runs: the programs themselves, and D-Bus as the daemon uses it.
    $out/bin/hive-c0re --version
    $out/bin/hive-ag3nt --version
    $out/bin/hive-m1nd --version
    GI_TYPELIB_PATH="$GI_TYPELIB_PATH" ${environment}/bin/python3 -c 'import pydbus; from gi.repository import Gio, GLib'
  ''
