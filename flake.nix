{
  description = "hyperhive: many coding agents on one NixOS host";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-25.11";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      forEachSystem = f: lib.genAttrs systems (system: f nixpkgs.legacyPackages.${system});
    in
    {
      # For the host: `services.hyperhive`. See docs/nixos.md.
      nixosModules.default = import ./nix/host-module.nix { inherit self; };

      # The operating system of one agent. The flakes that the daemon writes call it.
      lib.agentSystem = import ./nix/agent-system.nix { inherit self nixpkgs; };

      overlays.default = import ./nix/overlay.nix;

      packages = forEachSystem (pkgs: {
        default = pkgs.callPackage ./nix/package.nix { };
        options = import ./nix/options.nix { inherit self nixpkgs pkgs; };
      });

      # `nix run github:hyperhive/hyperhive -- serve --state-dir hive`: a hive without NixOS.
      apps = forEachSystem (pkgs: {
        default = {
          type = "app";
          program = lib.getExe self.packages.${pkgs.stdenv.hostPlatform.system}.default;
          meta.description = "The hive's daemon and its command line";
        };
      });

      checks = forEachSystem (pkgs: import ./nix/checks.nix { inherit self nixpkgs pkgs; });

      formatter = forEachSystem (pkgs: pkgs.nixfmt-tree);

      # What ./dev works in on NixOS. The Python packages come from wheels into .venv, as everywhere else.
      devShells = forEachSystem (pkgs: {
        default = pkgs.mkShellNoCC {
          packages = [
            pkgs.bubblewrap
            pkgs.curl
            pkgs.git
            pkgs.jq
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
