# The harness: what turns messages into turns of the agent; and beside it what serves people who step into the agent.
{
  config,
  lib,
  pkgs,
  hive,
  ...
}:

let
  cfg = config.hyperhive;
  servers = lib.mapAttrs (_: server: {
    type = "stdio";
    inherit (server) command args env;
  }) cfg.mcpServers;

  # The programs of the whole system, as in a shell: what an agent adds to it, its turns find.
  path = [
    "/run/wrappers"
    "/run/current-system/sw"
  ];
  environment = {
    HOME = "/root";
    LANG = "C.UTF-8";
    SSL_CERT_FILE = "/etc/ssl/certs/ca-certificates.crt";
    HIVE_AGENT_MCP = "/etc/hyperhive/mcp.json";
    # To an agent CLI the harness gives only what is named.
    HIVE_AGENT_ENVIRONMENT = lib.concatStringsSep " " (lib.attrNames cfg.environment);
    # Sessions have a unit of their own, which the harness has no part in.
    HIVE_ACCESS_UNIT = "hive-access.service";
  }
  // cfg.environment;
in
{
  config = {
    environment.etc."hyperhive/mcp.json".text = builtins.toJSON { mcpServers = servers; };

    systemd.services.hive-harness = {
      description = "the harness of ${hive.name}";
      wantedBy = [ "multi-user.target" ];
      inherit path environment;
      startLimitIntervalSec = 0; # it is tried again for ever: the hive sees that nobody reports in
      serviceConfig = {
        Type = "exec";
        ExecStart = "${lib.getExe' cfg.package hive.program} serve";
        # Written by the daemon, and wins over what is set above.
        EnvironmentFile = "/run/hive/environment";
        WorkingDirectory = "/state";
        Restart = "always";
        RestartSec = 1;
        KillMode = "mixed";
        TimeoutStopSec = 20;
        # The console is the unit's log on the host, where the daemon reads it.
        StandardOutput = "journal+console";
        StandardError = "journal+console";
      };
    };

    # Started when the daemon shows that somebody wants a session, and ended a minute after the last one.
    systemd.paths.hive-access = {
      description = "callers of ${hive.name}";
      wantedBy = [ "multi-user.target" ];
      pathConfig.PathExists = "/run/hive/access.wanted";
    };
    systemd.services.hive-access = {
      description = "sessions in ${hive.name}";
      inherit path environment;
      startLimitIntervalSec = 0;
      serviceConfig = {
        Type = "exec";
        ExecStart = "${lib.getExe' cfg.package hive.program} access";
        EnvironmentFile = "/run/hive/environment";
        TimeoutStopSec = 10;
      };
    };
  };
}
