{
  description = "hyperhive: many coding agents on one NixOS host";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-25.11";

  outputs =
    { nixpkgs, ... }:
    let
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      forEachSystem = f: nixpkgs.lib.genAttrs systems (system: f nixpkgs.legacyPackages.${system});
    in
    {
      # What ./dev works in on NixOS. The Python packages come from wheels into .venv, as everywhere else.
      devShells = forEachSystem (pkgs: {
        default = pkgs.mkShellNoCC {
          packages = [
            pkgs.bubblewrap
            pkgs.curl
            pkgs.git
            pkgs.python3
            pkgs.uv
          ];
          HIVE_NIX_SHELL = "1"; # tells ./dev that it is in here
          UV_PYTHON_DOWNLOADS = "never"; # an interpreter built for other distributions does not start here
          # Wheels hold libraries that want libstdc++, and programs (ruff) that want a loader at a fixed path.
          LD_LIBRARY_PATH = pkgs.lib.makeLibraryPath [ pkgs.stdenv.cc.cc.lib ];
          HIVE_LOADER = pkgs.stdenv.cc.bintools.dynamicLinker;
        };
      });
    };
}
