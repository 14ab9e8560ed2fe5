# The unit of the proxy through which sealed agents reach what their rules allow. It goes on while the daemon restarts.
{
  config,
  lib,
  ...
}:

let
  cfg = config.services.hyperhive;
in
{
  config = lib.mkIf cfg.enable {
    users.groups.hyperhive-egress = { }; # may connect to the daemon's socket for the proxy

    systemd.services.hive-egress = {
      description = "hyperhive: the proxy between agents and the world";
      documentation = [ "https://github.com/hyperhive/hyperhive" ];
      wantedBy = [ "multi-user.target" ];
      after = [ "network.target" ];

      serviceConfig = import ./hardening.nix // {
        ExecStart = "${lib.getExe' cfg.package "hive-c0re"} egress --status /run/hyperhive-egress/status.sock";
        SupplementaryGroups = "hyperhive-egress";
        RuntimeDirectory = "hyperhive-egress";
        LimitNOFILE = 65536;
        MemoryMax = "1G";

        RestrictAddressFamilies = [
          "AF_UNIX"
          "AF_INET"
          "AF_INET6"
          "AF_NETLINK" # the host's own addresses, which no agent reaches
        ];
      };
    };
  };
}
