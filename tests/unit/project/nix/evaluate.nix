# The example systems of nix/examples.nix, evaluated with the nixpkgs that is given, as the flake would.
{ nixpkgs, root }:

let
  inherit (import ./project.nix { inherit nixpkgs root; }) self flake;
  inherit (flake) lib;
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

  host =
    more:
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
    };
  mounts =
    system:
    map (mount: {
      inherit (mount) what where options;
    }) (lib.filter (mount: lib.hasSuffix "without setuid programs and devices" (mount.description or "")) system.config.systemd.mounts);
  # The host with something else set: what it says about that.
  said = more: failed (host more);
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
  features = map (words: (etc (host { nix.settings.experimental-features = words; }) "nix/nix.conf").source.text) [
    "nix-command flakes"
    [ "ca-derivations" ]
  ];
  # nix.conf and the user that evaluates, of a host as it is usual, and of one where root evaluates.
  nix = map (
    more:
    let
      inherit (host more) config;
    in
    {
      conf = config.environment.etc."nix/nix.conf".source.text;
      user = config.users.users.hyperhive-build or null != null;
      group = (config.users.users.hyperhive-build or { group = null; }).group;
    }
  ) [
    { }
    { nix.settings.allowed-users = [ "root" "@wheel" ]; }
    { services.hyperhive.settings.nixos.build_user = "root"; }
  ];
  # A host whose Nix builds without its sandbox: what it warns of.
  unsandboxed = (host {
    nix.settings.sandbox = "relaxed";
    nix.settings.sandbox-fallback = lib.mkForce true;
  }).config.warnings;
  mounts = mounts examples.host;
  separate =
    let
      system = host {
        fileSystems."/var/lib/hyperhive" = {
          device = "/dev/vdb";
          fsType = "ext4";
          options = [ "nodev" ];
        };
      };
    in
    {
      mounts = mounts system;
      inherit (system.config) warnings;
    };
  # The CLIs that hosts have in their stores, and those of agents' systems.
  backends =
    let
      programs =
        system: map (package: package.drvPath) (lib.filter lib.isDerivation system.config.system.extraDependencies);
    in
    {
      none = programs (host { });
      host = programs examples.host;
      manager = [ examples.manager.config.hyperhive.backend.package.drvPath ];
      more = programs (host {
        services.hyperhive = {
          manager.enable = true;
          manager.settings.backend = "opencode";
          agents.backends = [ "codex" "gemini" "opencode" ];
        };
        # What an agent's system does not have.
        nixpkgs.overlays = [ (_: packages: { codex = packages.hello; }) ];
      });
      agents = map (name: examples.agent.pkgs.${name}.drvPath) [ "codex" "gemini-cli" "opencode" ];
    };
  creation = {
    inherit (examples.host.config.systemd.services.hive-manager) serviceConfig wantedBy restartIfChanged;
  };
  containers = examples.host.config.boot.enableContainers;
  agent = {
    inherit (examples.agent.config.boot) isContainer;
    inherit (examples.agent.config.networking) hostName useDHCP;
    harness = unit examples.agent "hive-harness";
    access = unit examples.agent "hive-access";
    access_starts = examples.agent.config.systemd.paths.hive-access.pathConfig.PathExists;
    recipe = (etc examples.agent "hyperhive/recipe").text;
    shown = lib.filter (lib.hasPrefix "hyperhive/") (lib.attrNames examples.agent.config.environment.etc);
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
