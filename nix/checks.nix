# `nix flake check`: the package, a host, the systems of an agent and of the manager, and a hive in a virtual machine.
{
  self,
  nixpkgs,
  pkgs,
}:

let
  inherit (pkgs.stdenv.hostPlatform) system;
  examples = import ./examples.nix { inherit self nixpkgs system; };
in
{
  package = self.packages.${system}.default;
  inherit (self.packages.${system}) options;
  host = examples.host.config.system.build.toplevel;
  agent = examples.agent.config.system.build.toplevel;
  manager = examples.manager.config.system.build.toplevel;
  vm = pkgs.testers.runNixOSTest (import ./tests/gate.nix { inherit self nixpkgs system; });
}
