# What cannot work is told when the system is built, with what to do about it.
{ config, lib, ... }:

let
  cfg = config.services.hyperhive;
  strangers = lib.filter (name: !(config.users.users ? ${name})) cfg.admins;
  hidden = [
    "/home/"
    "/root/"
    "/run/"
    "/tmp/"
    "/var/tmp/"
    "/nix/"
  ];
  own = {
    runtime = "nixos";
    state_dir = cfg.stateDir;
    run_dir = "/run/hyperhive";
    socket_group = cfg.group;
  };
  keys = lib.concatMap (provider: provider.keys or [ ]) (lib.attrValues cfg.relay.providers);
  missing = lib.unique (lib.filter (name: !(cfg.relay.credentials ? ${name})) keys);
  overridden = lib.attrNames (lib.filterAttrs (name: value: cfg.settings.${name} or value != value) own);
in
{
  config = lib.mkIf cfg.enable {
    assertions = [
      {
        # `nixos-container run` of older releases runs as root of the host what an agent may have written.
        assertion = lib.versionAtLeast lib.trivial.release "25.05";
        message = ''
          services.hyperhive: this is NixOS ${lib.trivial.release}, and the oldest release that is supported is 25.05.
          Update the input nixpkgs of the host's flake.
        '';
      }
      {
        assertion = lib.versionAtLeast config.system.stateVersion "22.05";
        message = ''
          services.hyperhive: with a system.stateVersion below 22.05 NixOS keeps containers in /etc/containers and
          /var/lib/containers, where the hive does not look. Move them to /etc/nixos-containers and
          /var/lib/nixos-containers and raise system.stateVersion, after reading the release notes between the two.
        '';
      }
      {
        assertion = missing == [ ];
        message = ''
          services.hyperhive.relay.providers: there is no file for the key ${lib.concatStringsSep ", " missing}. Name it in
          services.hyperhive.relay.credentials.
        '';
      }
      {
        assertion = (cfg.dashboard.certificate == null) == (cfg.dashboard.key == null);
        message = ''
          services.hyperhive.dashboard: `certificate` and `key` belong together. Name both, or neither.
        '';
      }
      {
        assertion = config.boot.enableContainers;
        message = ''
          services.hyperhive: agents run in NixOS containers, and boot.enableContainers is forced to be false.
          Remove that, or disable services.hyperhive.
        '';
      }
      {
        assertion = config.nix.enable;
        message = ''
          services.hyperhive: agents are built with Nix on this host, and nix.enable is false. Set it to true.
        '';
      }
      {
        # The characters that the daemon takes: bind mounts are handed to containers in flags that a shell expands.
        assertion = builtins.match "(/[A-Za-z0-9._+@%,=-]+)+" cfg.stateDir != null;
        message = ''
          services.hyperhive.stateDir: ${cfg.stateDir} cannot be bound into containers. Choose a path with only letters,
          digits and . _ + @ % , = - in it, and without a slash at its end.
        '';
      }
      {
        assertion = !lib.any (place: lib.hasPrefix place "${cfg.stateDir}/") hidden;
        message = ''
          services.hyperhive.stateDir: ${cfg.stateDir} lies where the daemon's unit sees nothing or where nothing is
          kept (${lib.concatStringsSep ", " hidden}). Choose a directory in /var/lib or /srv, or on a disk of its own.
        '';
      }
      {
        assertion = strangers == [ ];
        message = ''
          services.hyperhive.admins names users that users.users does not have: ${lib.concatStringsSep ", " strangers}.
          Declare them, or put users from elsewhere into the group ${cfg.group} there.
        '';
      }
      {
        assertion = overridden == [ ];
        message = ''
          services.hyperhive.settings sets ${lib.concatStringsSep ", " overridden} to something that the unit is not made
          for. Use services.hyperhive.stateDir and services.hyperhive.group; the other two cannot be changed.
        '';
      }
    ];

    warnings = lib.optional (!cfg.agents.userNamespaces) ''
      services.hyperhive.agents.userNamespaces is false: root in a container is root on this host for whatever it
      reaches, and what keeps it in can be got out of. See "Confinement by containers" in docs/security.md.
    '';
  };
}
