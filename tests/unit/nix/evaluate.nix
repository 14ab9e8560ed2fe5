# The example systems of nix/examples.nix, evaluated with the nixpkgs that is given, as the flake would.
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
    outPath = if lib.isStorePath nixpkgs then nixpkgs else builtins.toFile "nixpkgs" (toString nixpkgs);
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
  examples = import (root + "/nix/examples.nix") {
    inherit self;
    nixpkgs = flake;
    system = "x86_64-linux";
  };
  failed = system: map (one: one.message) (lib.filter (one: !one.assertion) system.config.assertions);
  names =
    options:
    map (option: option.name) (
      lib.filter (option: option.visible && !(lib.hasInfix "._module." option.name)) (lib.optionAttrSetToDocList options)
    );
  unit = system: name: {
    inherit (system.config.systemd.services.${name}) serviceConfig environment;
    path = map lib.getName system.config.systemd.services.${name}.path;
  };
  etc = system: name: system.config.environment.etc.${name};

  # The host with something else set: what it says about that.
  said =
    more:
    failed (
      lib.nixosSystem {
        modules = [
          self.nixosModules.default
          {
            nixpkgs.hostPlatform = "x86_64-linux";
            system.stateVersion = lib.mkDefault "25.11";
            services.hyperhive.enable = true;
          }
          more
        ];
      }
    );
in
{
  failed = lib.mapAttrs (_: failed) examples;
  warnings = lib.mapAttrs (_: system: system.config.warnings) examples;
  options = {
    host = names { services.hyperhive = examples.host.options.services.hyperhive; };
    agent = names { inherit (examples.agent.options) hyperhive; };
  };
  daemon = unit examples.host "hive-c0re";
  settings = examples.host.config.services.hyperhive.settings;
  containers = examples.host.config.boot.enableContainers;
  agent = {
    inherit (examples.agent.config.boot) isContainer;
    inherit (examples.agent.config.networking) hostName useDHCP;
    harness = unit examples.agent "hive-harness";
    recipe = (etc examples.agent "hyperhive/recipe").text;
    files = builtins.attrNames (builtins.readDir (etc examples.agent "hyperhive/agent").source);
    servers = builtins.fromJSON (etc examples.agent "hyperhive/mcp.json").text;
    programs = map lib.getName examples.agent.config.environment.systemPackages;
    console = examples.agent.config.systemd.services.console-getty.enable;
  };
  manager = {
    harness = unit examples.manager "hive-harness";
    programs = map lib.getName examples.manager.config.environment.systemPackages;
  };
  said = {
    place = said { services.hyperhive.stateDir = "/home/hive here"; };
    stranger = said { services.hyperhive.admins = [ "bob" ]; };
    runtime = said { services.hyperhive.settings.runtime = "local"; };
    containers = said { boot.enableContainers = lib.mkForce false; };
    old = said { system.stateVersion = "21.11"; };
  };
  # What the flake's checks build: instantiated, so evaluated to the end.
  systems = lib.mapAttrs (_: system: system.config.system.build.toplevel.drvPath) examples;
}
