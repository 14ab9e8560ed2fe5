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
    systemd.services.hive-manager = {
      description = "the manager of this host's hive, made if it is not there";
      after = [ "hive-c0re.service" ];
      requires = [ "hive-c0re.service" ];
      wantedBy = [ "multi-user.target" ];
      # Building it may take minutes, for which neither a boot nor a switch should wait.
      serviceConfig = {
        Type = "exec";
        Restart = "on-failure";
        RestartSec = 60;
      };
      restartIfChanged = false;
      path = [
        cfg.package
        pkgs.jq
      ];
      script = ''
        agents=$(hive-c0re list --json)
        if jq --exit-status '.agents | any(.name == "hm1nd")' <<<"$agents" >/dev/null; then
          echo "there is a manager already"
        else
          hive-c0re spawn hm1nd --config-dir ${files} --no-wait
        fi
      '';
    };
  };
}
