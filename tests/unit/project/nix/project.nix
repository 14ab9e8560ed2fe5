# The flake's own outputs, as far as systems need them, with the nixpkgs that is given instead of the locked one.
{ nixpkgs, root }:

let
  lib = import (nixpkgs + "/lib") // {
    # As the flake of nixpkgs has it.
    nixosSystem =
      arguments:
      import (nixpkgs + "/nixos/lib/eval-config.nix") (
        {
          inherit lib;
          system = null;
        }
        // arguments
      );
  };
  flake = {
    inherit lib;
    # A flake is in the store. To copy a whole nixpkgs there takes long, so a file stands for one that is elsewhere.
    outPath = if lib.isStorePath nixpkgs then nixpkgs else builtins.toFile "nixpkgs" "import ${toString nixpkgs}";
  };
  self = {
    outPath = root;
    narHash = "sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    inputs.nixpkgs = flake;
    nixosModules.default = import (root + "/nix/host-module.nix") { inherit self; };
    lib.agentSystem = import (root + "/nix/agent-system.nix") {
      inherit self;
      nixpkgs = flake;
    };
  };
in
{
  inherit self flake;
}
