# The daemon's settings file, made from the options and checked by the daemon.
{
  config,
  lib,
  pkgs,
  ...
}:

let
  cfg = config.services.hyperhive;
  toml = pkgs.formats.toml { };

  # TOML has no null: what is not set is left to the daemon's default.
  bounds =
    given:
    lib.filterAttrs (_: value: value != null) {
      memory_max = given.memoryMax;
      disk_max = given.diskMax;
      cpu_quota = given.cpuQuota;
      tasks_max = given.tasksMax;
      io_weight = given.ioWeight;
    };

  written = toml.generate "hyperhive-unchecked.toml" cfg.settings;
  # Where the programs cannot be run (the system is built on a machine of another kind) the daemon checks at its start.
  runnable = pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform;
  checked = pkgs.runCommand "hyperhive.toml" { } ''
    ${lib.optionalString runnable "${lib.getExe' cfg.package "hive-c0re"} check-config ${written}"}
    cp ${written} $out
  '';
in
{
  options.services.hyperhive.configFile = lib.mkOption {
    type = lib.types.path;
    readOnly = true;
    default = checked;
    defaultText = lib.literalMD "made from the options";
    description = "The settings file, as the daemon reads it. Cannot be set.";
  };

  config = lib.mkIf cfg.enable {
    environment.etc."hyperhive/config.toml".source = cfg.configFile; # where the command line looks for the socket

    services.hyperhive.settings = lib.mapAttrs (_: lib.mkDefault) {
      state_dir = cfg.stateDir;
      run_dir = "/run/hyperhive";
      runtime = "nixos";
      socket_group = cfg.group;
      pass_environment = cfg.passEnvironment;
    }
    // {
      nixos = lib.mapAttrs (_: lib.mkDefault) {
        inherit (cfg) flake;
        user_namespaces = cfg.agents.userNamespaces;
        inherit (cfg.agents) updates;
      };
      limits = bounds cfg.agents.limits;
      ceilings = bounds cfg.agents.ceilings;
      approval = lib.mapAttrs (_: lib.mkDefault) {
        inherit (cfg.approval)
          config
          spawn
          destroy
          network
          rules
          ;
        manager_config = cfg.approval.managerConfig;
      };
      egress = lib.mapAttrs (_: lib.mkDefault) {
        inherit (cfg.egress) allow deny limits;
        encrypted_hello = cfg.egress.encryptedHello;
      };
      dashboard = lib.mapAttrs (_: lib.mkDefault) {
        enabled = cfg.dashboard.enable;
        inherit (cfg.dashboard) origin listen;
      };
      services = lib.mapAttrs (_: lib.mkDefault) cfg.services;
      relay.providers = lib.mapAttrs (_: lib.mkDefault) cfg.relay.providers;
      budget = lib.mapAttrs (_: lib.mkDefault) { inherit (cfg.budget) agents ceilings hive; };
    };
  };
}
