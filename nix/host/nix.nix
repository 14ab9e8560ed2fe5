# The host's Nix, with which agents are built, and the user that evaluates what they propose.
{ config, lib, ... }:

let
  cfg = config.services.hyperhive;
  user = "hyperhive-build";
  # The settings have no value of their own where the daemon's default is meant.
  unprivileged = (cfg.settings.nixos.build_user or "dynamic") != "root";
  conf = config.nix.settings;
in
{
  config = lib.mkIf cfg.enable {
    # A name that nix.conf can have in allowed-users: a dynamic user of systemd has it only as long as it runs.
    users = lib.mkIf unprivileged {
      users.${user} = {
        isSystemUser = true;
        group = user;
        description = "evaluates what agents of the hive propose";
      };
      groups.${user} = { };
    };

    nix = {
      # Added to what the host says, which may be everybody (`*`), and which a list here would replace.
      extraOptions = lib.mkIf unprivileged "extra-allowed-users = ${user}";
      settings = {
        sandbox = lib.mkDefault true;
        sandbox-fallback = lib.mkDefault false;
      };
    };

    warnings =
      lib.optional (conf.sandbox != true) ''
        services.hyperhive: nix.settings.sandbox is ${builtins.toJSON conf.sandbox}. What an agent builds through this
        host's Nix daemon can then run outside of Nix's sandbox, as a user of this host, with its network and its files.
        Set it to true. The hive's own builds of proposals are in the sandbox all the same.
      ''
      ++ lib.optional (conf.sandbox-fallback != false) ''
        services.hyperhive: nix.settings.sandbox-fallback is ${builtins.toJSON conf.sandbox-fallback}. Where Nix cannot
        make its sandbox, what an agent builds through this host's Nix daemon then runs without one. Set it to false. The
        hive's own builds of proposals fail instead.
      '';
  };
}
