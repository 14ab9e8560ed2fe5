# The manager, made once.
{
  config,
  lib,
  pkgs,
  ...
}:

let
  cfg = config.services.hyperhive;
  toml = pkgs.formats.toml { };

  inherit (import ../agent/backends.nix { inherit pkgs; }) programs;
  backend = cfg.manager.settings.backend or "scripted";

  files = pkgs.runCommand "hm1nd-config" { } ''
    mkdir $out
    cp ${toml.generate "agent.toml" cfg.manager.settings} $out/agent.toml
    ${lib.optionalString (
      cfg.manager.prompt != null
    ) "cp ${pkgs.writeText "prompt.md" cfg.manager.prompt} $out/prompt.md"}
    ${lib.optionalString (cfg.manager.nix != null) "cp ${cfg.manager.nix} $out/agent.nix"}
  '';
in
{
  config = lib.mkIf (cfg.enable && cfg.manager.enable) {
    services.hyperhive.agents.backends = lib.optional (lib.elem backend (lib.attrNames programs)) backend;

    systemd.services.hive-manager = {
      description = "the manager of this host's hive, made if it is not there";
      # Without the network no binary cache answers, and a build that failed for that is not tried again.
      wants = [ "network-online.target" ];
      after = [
        "hive-c0re.service"
        "network-online.target"
      ];
      requires = [ "hive-c0re.service" ];
      # Every boot and every switch starts the target, and so this unit again, also after a failure.
      wantedBy = [ "multi-user.target" ];
      # Building it may take minutes, for which neither a boot nor a switch should wait.
      serviceConfig = {
        Type = "exec";
        Restart = "on-failure";
        RestartSec = 60;
        # Of the script: each further try would fail in the same way, and be recorded as one more failed proposal.
        RestartPreventExitStatus = 78;
      };
      restartIfChanged = false;
      path = [
        cfg.package
        pkgs.jq
      ];
      environment.MANAGER_CONFIG = files;
      script = builtins.readFile ./create-manager.sh;
    };
  };
}
