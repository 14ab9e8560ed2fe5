# `lib.agentSystem`: the operating system of one agent. The daemon writes a flake for each agent that calls this.
#
#   system   "x86_64-linux"
#   name     the agent's name
#   kind     "agent" or "manager"
#   agent    the tree with the agent's configuration: agent.nix, agent.toml, prompt.md
#   modules  more modules for every agent: for a flake of an operator's own that wraps this one
#   recipe   what tells this hyperhive from an older one; null if nothing does
{ self, nixpkgs }:
{
  system,
  name,
  kind,
  agent,
  modules ? [ ],
  recipe ? self.narHash or null,
}:

let
  inherit (nixpkgs) lib;
  kinds = {
    agent = {
      container = "h-${name}";
      program = "hive-ag3nt";
      modules = [ ];
    };
    manager = {
      container = name;
      program = "hive-m1nd";
      modules = [ ./agent/manager.nix ];
    };
  };
  chosen = kinds.${kind} or (throw "lib.agentSystem: kind is \"agent\" or \"manager\", not \"${kind}\"");
  tree = "${agent}";
  configuration = tree + "/agent.nix";
in
lib.nixosSystem {
  # Under a name of its own, so that nothing an agent.nix imports is in its way.
  specialArgs.hive = {
    inherit name recipe;
    inherit (chosen) container program;
    agent = tree;
  };
  modules = [
    { nixpkgs.hostPlatform = system; }
    ./agent/options.nix
    ./agent/base.nix
    ./agent/harness.nix
  ]
  ++ chosen.modules
  ++ modules
  ++ lib.optional (builtins.pathExists configuration) configuration;
}
