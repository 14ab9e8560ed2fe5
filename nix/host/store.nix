# What agents are built from, in the host's store: nixos-rebuild may fetch it, and the build of an agent may not.
{ self }:
{
  config,
  lib,
  pkgs,
  ...
}:

let
  cfg = config.services.hyperhive;
  nixpkgs = import ../locked-nixpkgs.nix {
    inherit (self.inputs) nixpkgs;
    inherit ((lib.importJSON ../../flake.lock).nodes.nixpkgs) locked;
  };

  # As an agent's system has it: the overlays and the configuration of the host would make other programs.
  inherit
    (import ../agent/backends.nix {
      pkgs = import nixpkgs {
        inherit (pkgs.stdenv.hostPlatform) system;
        overlays = [ ];
        config.allowUnfreePredicate =
          package: lib.any (backend: (unfree.${backend} or null) == lib.getName package) cfg.agents.backends;
      };
    })
    programs
    unfree
    ;
in
{
  _file = ./store.nix;

  config = lib.mkIf (cfg.enable && self ? inputs.nixpkgs) {
    system.extraDependencies = [ nixpkgs.outPath ] ++ map (backend: programs.${backend}) (lib.unique cfg.agents.backends);
  };
}
