# The unit of the relay, which alone has the keys of models' vendors. It goes on while the daemon restarts.
{
  config,
  lib,
  ...
}:

let
  cfg = config.services.hyperhive;
in
{
  config = lib.mkIf (cfg.enable && cfg.relay.providers != { }) {
    users.groups.hyperhive-relay = { }; # may connect to the daemon's socket for the relay

    systemd.services.hive-relay = {
      description = "hyperhive: the relay between agents and the vendors of models";
      documentation = [ "https://github.com/hyperhive/hyperhive" ];
      wantedBy = [ "multi-user.target" ];
      after = [ "network.target" ];

      serviceConfig = import ./hardening.nix // {
        ExecStart = "${lib.getExe' cfg.package "hive-c0re"} relay --status /run/hyperhive-relay/status.sock";
        SupplementaryGroups = "hyperhive-relay";
        RuntimeDirectory = "hyperhive-relay";
        LoadCredential = lib.mapAttrsToList (name: path: "${name}:${path}") cfg.relay.credentials;
        LimitNOFILE = 65536;
        LimitCORE = 0; # a core dump would hold the keys
        MemoryMax = "1G";

        RestrictAddressFamilies = [
          "AF_UNIX"
          "AF_INET"
          "AF_INET6"
        ];
      };
    };
  };
}
