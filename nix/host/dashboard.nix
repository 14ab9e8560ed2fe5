# The units of the web pages: a socket, which systemd opens, and a service that has no network beside it.
{
  config,
  lib,
  ...
}:

let
  cfg = config.services.hyperhive;
  inherit (cfg.dashboard) certificate key listen;
  usesTls = certificate != null;
in
{
  config = lib.mkIf (cfg.enable && cfg.dashboard.enable) {
    users.groups.hyperhive-web = { }; # may connect to the daemon's socket for the dashboard

    systemd.sockets.hive-dashboard = {
      description = "hyperhive: the address of the web pages";
      wantedBy = [ "sockets.target" ];
      listenStreams = [ listen ];
      socketConfig = {
        Backlog = 128;
      }
      // lib.optionalAttrs (lib.hasPrefix "/" listen) {
        SocketMode = "0660";
        SocketGroup = cfg.dashboard.proxyGroup;
      };
    };

    systemd.services.hive-dashboard = {
      description = "hyperhive: the web pages";
      documentation = [ "https://github.com/hyperhive/hyperhive" ];
      wantedBy = [ "multi-user.target" ];
      requires = [ "hive-dashboard.socket" ];
      after = [ "hive-dashboard.socket" ];

      serviceConfig = import ./hardening.nix // {
        ExecStart =
          "${lib.getExe' cfg.package "hive-c0re"} dashboard --inherited 3 --origin ${cfg.dashboard.origin}"
          + lib.optionalString usesTls " --certificate %d/certificate --key %d/key";
        SupplementaryGroups = "hyperhive-web";
        LoadCredential = lib.optionals usesTls [
          "certificate:${certificate}"
          "key:${key}"
        ];
        LimitNOFILE = 16384;
        LimitCORE = 0; # a core dump would hold sessions
        MemoryMax = "1G";
        PrivateNetwork = true;
        RestrictAddressFamilies = [ "AF_UNIX" ];
      };
    };
  };
}
